//! Prints the verdict for upstreams, one word a line, with what it means: `verdict 127.0.0.1:3000 unix:/run/app.sock`.
//! The namespace tests compare it with what another machine can reach.

use loopgate::base::loopback::Target;
use loopgate::{exposure, net::interfaces};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::Write;
    let targets: Vec<Target> = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let upstreams: Vec<_> = targets.iter().map(|target| &target.address).collect();
    let verdicts = exposure::check(&upstreams, &interfaces::read()?, &[]).await;
    let mut out = std::io::stdout().lock();
    for verdict in verdicts {
        writeln!(
            out,
            "{}\t{}",
            verdict.word(),
            verdict.to_string().replace('\n', " ")
        )?;
    }
    Ok(())
}
