//! # Preferences and fronts in a browser
//!
//! The picture of a measured front, the control that sets a preference λ, and the words that say what was measured
//! there: plain ES modules with a style, in `parts/`. The server's page imports them; a page that is one file has
//! them within it, as [`one_script`] makes it.
//!
//! ## Is this for you?
//! Yes, if you show a front in a browser: serve [`PARTS`] beside modules of your own, which import them as
//! `./front-plot.js`, or give them to [`one_script`], with [`json_in_script`] for what they are to show.
//!
//! ```
//! use panacea_page::{PARTS, one_script};
//!
//! let main = r#"import { inWords } from "./weights.js";
//! document.title = inWords(["brevity", "detail"], [0.2, 0.8]);
//! "#;
//! let script = one_script("main.js", main, &PARTS)?;
//! assert!(script.contains("const { inWords } = modules[\"weights.js\"];"));
//! # Ok::<(), panacea_page::ScriptError>(())
//! ```

mod script;

pub use script::{ScriptError, json_in_script, one_script};

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../parts/", $name)))),*] };
}

/// The modules, each by its name and its text.
pub const PARTS: [(&str, &str); 14] = files![
    "axis.js" "dom.js" "errors.js" "front-plot.js" "front.js" "heat-map.js" "heat-triangles.js" "kept-lines.js"
    "marker.js" "parallel.js" "plane.js" "triangle.js" "weight-control.js" "weights.js"
];

/// The style of the modules, and of texts, buttons and fields around them; in light and in dark.
pub const STYLE: &str = include_str!("../parts/parts.css");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_is_there() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("parts");
        let there = std::fs::read_dir(folder).unwrap();
        let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let named = PARTS.iter().map(|(name, _)| (*name).to_owned());
        let named: BTreeSet<String> = named.chain(["parts.css".to_owned()]).collect();
        assert_eq!(there.collect::<BTreeSet<_>>(), named);
    }

    /// What would let a name or an answer become part of the page, and what would ask somebody else.
    #[test]
    fn texts_stay_texts_and_nothing_is_fetched() {
        let xmlns = "http://www.w3.org/2000/svg";
        for (name, text) in PARTS.into_iter().chain([("parts.css", STYLE)]) {
            let text = text.replace(xmlns, "");
            for part in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=\"",
                "://",
                "url(",
                "@import",
                "fetch(",
            ] {
                assert!(!text.contains(part), "{name} has {part}");
            }
        }
    }

    #[test]
    fn all_of_them_become_one_script() {
        let imports = PARTS.map(|(name, _)| format!("import {{  }} from \"./{name}\";\n"));
        let script =
            one_script("main.js", &imports.concat(), &PARTS).expect("modules of this kind");
        for (name, _) in PARTS {
            let start = format!("modules[\"{name}\"] = ");
            assert_eq!(script.matches(&start).count(), 1, "{name}");
        }
    }
}
