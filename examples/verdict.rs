//! Prints the verdict for upstreams, one word a line, with what it means: `verdict 127.0.0.1:3000 unix:/run/app.sock`.
//! The namespace tests compare it with what another machine can reach.
//!
//! `verdict --cost 10000 127.0.0.1:3000` opens that many listening sockets on loopback first (`ulimit -n 20000`), asks twenty times, and
//! prints what one check costs: time that passed, and time of the CPU.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use loopgate::base::loopback::{LoopbackAddr, Target};
use loopgate::{exposure, net::interfaces};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let sockets = match words.first().map(String::as_str) {
        Some("--cost") if words.len() > 1 => Some(words.drain(..2).nth(1).unwrap_or_default()),
        _ => None,
    };
    let targets: Vec<Target> = words
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let upstreams: Vec<_> = targets.iter().map(|target| &target.address).collect();
    if let Some(sockets) = sockets {
        return cost(sockets.parse()?, &upstreams).await;
    }
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

/// How often it is asked.
const TIMES: usize = 20;

async fn cost(sockets: u32, upstreams: &[&LoopbackAddr]) -> Result<(), Box<dyn std::error::Error>> {
    // A thousand a loopback address: ports of one address run out, and their look-up slows down, before addresses do.
    let open = (0..sockets).map(|n| TcpListener::bind(format!("127.1.{}.1:0", n / 1000)));
    let open: Vec<TcpListener> = open.collect::<Result<_, _>>()?;
    let interfaces = interfaces::read()?;
    let mut passed = Vec::new();
    let cpu = cpu();
    for _ in 0..TIMES {
        let start = Instant::now();
        exposure::check(upstreams, &interfaces, &[]).await;
        passed.push(start.elapsed());
    }
    let used = (self::cpu() - cpu) / u32::try_from(TIMES)?;
    passed.sort();
    let (median, most) = (passed[TIMES / 2], passed[TIMES - 1]);
    writeln!(
        std::io::stdout(),
        "{} sockets, {TIMES} checks of {} upstreams: {median:.1?} each (median; most {most:.1?}), {used:.1?} of CPU",
        open.len(),
        upstreams.len(),
    )?;
    Ok(())
}

/// The time of the CPU that this process has used, all threads that live.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let used = threads.filter_map(|thread| {
        let told = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        told.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}
