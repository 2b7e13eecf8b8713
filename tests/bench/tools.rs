//! What the benchmark needs beside wrk, h2load and curl: an upstream that costs as little as possible, and a WebSocket client
//! that plays ping-pong. Loopback only; every run ends by itself.
//!
//!     bench_tools upstream PORT
//!     bench_tools websocket PORT CONNECTIONS SECONDS [AUTHORIZATION]

#![allow(
    clippy::print_stdout,
    reason = "its result is a line on standard output"
)]

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream", port] => upstream(port.parse()?).await,
        ["websocket", port, connections, seconds] => {
            websocket(port.parse()?, connections.parse()?, seconds.parse()?, None).await
        }
        ["websocket", port, connections, seconds, authorization] => {
            websocket(
                port.parse()?,
                connections.parse()?,
                seconds.parse()?,
                Some(authorization),
            )
            .await
        }
        _ => Err("see the head of tests/bench/tools.rs".into()),
    }
}

/// `GET /1k`, `GET /mib/N`, `POST /sink` (Content-Length), `GET /ws` (echo). One thread, no library, fixed answers.
async fn upstream(port: u16) -> Outcome<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let small: Arc<[u8]> = {
        let mut answer =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n".to_vec();
        answer.resize(answer.len() + 1024, b'x');
        answer.into()
    };
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, Arc::clone(&small)));
    }
}

async fn serve(mut stream: TcpStream, small: Arc<[u8]>) -> io::Result<()> {
    let mut input = Vec::with_capacity(256 << 10);
    loop {
        let head = loop {
            if let Some(at) = memchr::memmem::find(&input, b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&input[..head]).into_owned();
        input.drain(..head);
        if text.starts_with("GET /1k ") {
            stream.write_all(&small).await?;
        } else if let Some(rest) = text.strip_prefix("GET /mib/") {
            let mib: usize = rest
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(1);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", mib << 20);
            stream.write_all(head.as_bytes()).await?;
            let piece = vec![b'x'; 256 << 10];
            for _ in 0..mib * 4 {
                stream.write_all(&piece).await?;
            }
        } else if text.starts_with("POST /sink ") || text.starts_with("PUT /sink ") {
            let length = text.lines().find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse()
                    .ok()
            });
            let mut left: usize = length.unwrap_or(0);
            while left > 0 {
                if input.is_empty() && stream.read_buf(&mut input).await? == 0 {
                    return Ok(());
                }
                let n = left.min(input.len());
                left -= n;
                input.drain(..n);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await?;
        } else if text.starts_with("GET /ws ") {
            // The answer to the key of RFC 6455, 1.3.
            let agreed = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(agreed).await?;
            return echo(stream, input).await;
        } else {
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await?;
        }
    }
}

/// Sends every short masked frame back without its mask.
async fn echo(mut stream: TcpStream, mut input: Vec<u8>) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        while let Some((length, head)) = frame(&input) {
            if input.len() < head + 4 + length {
                break;
            }
            out.push(input[0]);
            if length < 126 {
                out.push(length as u8);
            } else {
                out.push(126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            let mask: [u8; 4] = [
                input[head],
                input[head + 1],
                input[head + 2],
                input[head + 3],
            ];
            let payload = &input[head + 4..head + 4 + length];
            out.extend(payload.iter().enumerate().map(|(i, c)| c ^ mask[i & 3]));
            input.drain(..head + 4 + length);
        }
        stream.write_all(&out).await?;
        out.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// Length of the payload and of the head before its mask, once the head is there.
fn frame(input: &[u8]) -> Option<(usize, usize)> {
    let short = usize::from(*input.get(1)? & 0x7f);
    if short < 126 {
        return Some((short, 2));
    }
    Some((
        usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])),
        4,
    ))
}

const MESSAGE: usize = 128;

/// Each connection sends a frame of 128 bytes, waits for its echo and begins again. Prints one JSON line.
async fn websocket(
    port: u16,
    connections: usize,
    seconds: f64,
    authorization: Option<&str>,
) -> Outcome<()> {
    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut players = JoinSet::new();
    for _ in 0..connections {
        let authorization = authorization
            .map(|a| format!("Authorization: {a}\r\n"))
            .unwrap_or_default();
        players.spawn(play(connector.clone(), port, authorization, until));
    }
    let (mut times, mut errors) = (Vec::new(), 0);
    while let Some(played) = players.join_next().await {
        match played? {
            Ok(more) => times.extend(more),
            Err(error) => {
                errors += 1;
                println!("{{\"error\":{:?}}}", error.to_string());
            }
        }
    }
    times.sort_unstable();
    let at = |part: f64| {
        let place = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or(0)
    };
    println!(
        "{{\"messages\":{},\"errors\":{errors},\"p50_us\":{},\"p99_us\":{}}}",
        times.len(),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

async fn play(
    connector: TlsConnector,
    port: u16,
    authorization: String,
    until: Instant,
) -> Outcome<Vec<u128>> {
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    tcp.set_nodelay(true)?;
    let mut stream = connector
        .connect(ServerName::try_from("localhost")?, tcp)
        .await?;
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\n{authorization}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while memchr::memmem::find(&answer, b"\r\n\r\n").is_none() {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("closed during the handshake".into());
        }
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&answer).into());
    }
    let mut frame = vec![0x81, 0x80 | 126, 0, MESSAGE as u8, 1, 2, 3, 4];
    frame.extend((0..MESSAGE).map(|i| b'a' ^ [1, 2, 3, 4][i & 3]));
    let mut echo = vec![0; frame.len() - 4];
    let mut times = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        stream.write_all(&frame).await?;
        stream.flush().await?;
        stream.read_exact(&mut echo).await?;
        times.push(sent.elapsed().as_micros());
    }
    Ok(times)
}

/// The benchmark makes its certificate itself and trusts whatever answers on loopback.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
