//! Draws two methods on the same objectives, and says how good each is: all files of a report, in a folder.
//!
//!     cargo run -p panacea-evaluator --example draw_front -- out

use std::env;
use std::error::Error;
use std::path::Path;

use panacea_evaluator::{Front, MethodPoints, PointRecords, Report};

/// Values of 20 held-out records along a front whose ends are `reach` apart.
fn points(reach: f64) -> Vec<PointRecords> {
    let records = |middle: f64, seed: usize| -> Vec<f64> {
        let noise = |record: usize| ((record * 7 + seed) % 20) as f64 / 20.0 - 0.475;
        (0..20).map(|record| middle + 0.2 * noise(record)).collect()
    };
    let point = |place: usize| {
        let share = place as f64 / 10.0;
        let angle = share * std::f64::consts::FRAC_PI_2;
        let [helpful, concise] = [angle.sin(), angle.cos()].map(|it| reach * (it - 1.0) - 0.5);
        PointRecords {
            lambda: vec![share, 1.0 - share],
            records: vec![records(helpful, 0), records(concise, 9)],
            ..PointRecords::default()
        }
    };
    (0..=10).map(point).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::args().nth(1).ok_or("usage: draw_front FOLDER")?;
    let objectives = ["helpfulness", "conciseness"].map(str::to_owned).to_vec();
    let mut methods = Vec::new();
    for (name, reach) in [("first", 0.2), ("second", 0.4)] {
        let method = MethodPoints::from_records(name, &objectives, points(reach), None, None)?;
        methods.push(method);
    }
    let front = Front::new(objectives, methods, Some(vec![-1.0, -1.0]), None)?;
    for method in &front.methods {
        println!(
            "{}: hypervolume {:.4}",
            method.method, method.indicators.hypervolume
        );
    }
    let report = Report {
        front,
        samples: Vec::new(),
        notes: vec!["Made-up numbers.".to_owned()],
        title: "Two methods".to_owned(),
    };
    for path in report.write(Path::new(&out))? {
        println!("{}", path.display());
    }
    Ok(())
}
