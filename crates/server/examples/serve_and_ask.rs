//! Serves a run for one request, which it asks itself, as any client of OpenAI's API would.
//!
//!     cargo run --release -p panacea-server --example serve_and_ask -- runs/mine "When does the library open?"

use std::env;
use std::error::Error;
use std::path::Path;
use std::thread;

use burn_tensor::Device;
use panacea_model::Decoder;
use panacea_runs::RunFolder;
use panacea_server::{Catalogue, ServedRun, Server, Settings};
use panacea_serving::{Policy, open_model_of};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [run, question] = &arguments[..] else {
        return Err("usage: serve_and_ask RUN QUESTION".into());
    };
    let run = RunFolder::open(Path::new(run))?;
    let plan = run.record()?.plan;
    let pretrained = open_model_of(&plan, None)?;
    let decoder = Decoder::load(&pretrained, &Device::flex())?;
    let mut catalogue = Catalogue::new("base");
    catalogue.add(ServedRun {
        policy: Policy::open(&run, &decoder)?,
        default: None,
        front: None,
        interviews: Err("this program keeps none".to_owned()),
    })?;
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        ..Settings::default()
    };
    let server = Server::bind(catalogue, pretrained.tokenizer()?, settings)?;

    let (url, end) = (
        format!("http://{}/v1/chat/completions", server.address()),
        server.handle(),
    );
    let mut first = vec![0.0; plan.objectives().len()];
    first[0] = 1.0;
    let body = json!({
        "model": run.name(),
        "messages": [{"role": "user", "content": question}],
        "preference": first,
        "max_tokens": 32,
    });
    let asking = thread::spawn(move || {
        let answer = ureq::post(&url)
            .header("Content-Type", "application/json")
            .send(body.to_string());
        let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        end.end();
        text
    });
    // Computes on this thread until it is told to end.
    server.run(&decoder)?;
    println!("{}", asking.join().expect("the client does not panic")?);
    Ok(())
}
