//! A page of one file, in which a preference is set by hand and said in words.
//!
//!     cargo run -p panacea-page --example one_page -- page.html

use std::env;
use std::error::Error;
use std::fs;

use panacea_page::{PARTS, json_in_script, one_script};

const MAIN: &str = r#"
import { inWords, uniform, withWeight } from "./weights.js";

const objectives = JSON.parse(document.getElementById("objectives").textContent);
const [slider, words] = [document.querySelector("input"), document.querySelector("output")];
const show = () => {
  words.textContent = inWords(objectives, withWeight(uniform(objectives.length), 0, slider.value / 100));
};
slider.addEventListener("input", show);
show();
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: one_page FILE")?;
    let objectives = json_in_script(r#"["brevity", "detail", "warmth"]"#);
    let script = one_script("main.js", MAIN, &PARTS)?;
    let page = format!(
        r#"<!doctype html><meta charset="utf-8"><title>A preference</title>
<label>brevity <input type="range"></label> <output></output>
<script type="application/json" id="objectives">{objectives}</script>
<script>{script}</script>
"#
    );
    fs::write(&path, page)?;
    println!("open {path} in a browser");
    Ok(())
}
