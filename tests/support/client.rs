//! A client that writes exactly the bytes it is given and reads what comes, within a deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::message::{self, Answer, Read};
use super::soon;

/// Any stream.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A connection, with what was read from it and not used yet.
pub struct Client {
    pub stream: Box<dyn Duplex>,
    pub got: Vec<u8>,
    /// How the stream ended, once it has.
    pub end: Option<End>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should: FIN, over TLS with a close_notify before.
    Clean,
    /// In any other way.
    Cut,
}

impl Client {
    /// Over TLS; any certificate will do.
    pub async fn tls(address: SocketAddr, sni: Option<&str>, alpn: &str) -> Self {
        Self::try_tls(address, sni, alpn)
            .await
            .expect("a TLS handshake")
    }

    /// As [`Client::tls`]; the handshake may fail.
    pub async fn try_tls(address: SocketAddr, sni: Option<&str>, alpn: &str) -> io::Result<Self> {
        Self::introduced(address, b"", sni, alpn).await
    }

    /// As [`Client::try_tls`], with these bytes before everything else.
    pub async fn introduced(
        address: SocketAddr,
        first: &[u8],
        sni: Option<&str>,
        alpn: &str,
    ) -> io::Result<Self> {
        let mut config = ClientConfig::clone(&CONFIG);
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config.enable_sni = sni.is_some();
        let name =
            ServerName::try_from(sni.unwrap_or("nobody").to_owned()).map_err(io::Error::other)?;
        let shake = async {
            let mut tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            tcp.write_all(first).await?;
            TlsConnector::from(Arc::new(config))
                .connect(name, tcp)
                .await
        };
        Ok(Self::over(soon("a TLS handshake", shake).await?))
    }

    /// Over TLS to `app.lan`, from this address.
    pub async fn tls_from(source: std::net::IpAddr, address: SocketAddr, alpn: &str) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::new(source, 0))
            .expect("an address of this machine");
        let mut config = ClientConfig::clone(&CONFIG);
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from("app.lan").expect("a name");
        let shake = async {
            let tcp = socket.connect(address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(Arc::new(config))
                .connect(name, tcp)
                .await
        };
        Self::over(soon("a TLS handshake", shake).await.expect("a handshake"))
    }

    /// Over TLS to `app.lan` with this configuration; and whether it was a session resumed.
    pub async fn with(address: SocketAddr, config: &Arc<ClientConfig>) -> (Self, bool) {
        Self::try_with(address, config)
            .await
            .expect("a TLS handshake")
    }

    /// As [`Client::with`]; the handshake may fail.
    pub async fn try_with(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
    ) -> io::Result<(Self, bool)> {
        let name = ServerName::try_from("app.lan").map_err(io::Error::other)?;
        let shake = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(Arc::clone(config))
                .connect(name, tcp)
                .await
        };
        let stream = soon("a TLS handshake", shake).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok((Self::over(stream), resumed))
    }

    /// In clear.
    pub async fn tcp(address: SocketAddr) -> Self {
        Self::over(
            soon("a connection", TcpStream::connect(address))
                .await
                .expect("a connection"),
        )
    }

    pub fn over(stream: impl Duplex + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            got: Vec::new(),
            end: None,
        }
    }

    /// Writes all of it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the gate to read");
    }

    /// Writes, to a gate that may have ended the connection already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let write = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        soon("the gate to read", write).await
    }

    /// Reads more; false at the end.
    pub async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match soon("more bytes", self.stream.read(&mut buffer)).await {
            Ok(0) => self.end = Some(End::Clean),
            Err(_) => self.end = Some(End::Cut),
            Ok(n) => self.got.extend_from_slice(&buffer[..n]),
        }
        self.end.is_none()
    }

    /// The next answer, final or not, to a request by this method.
    pub async fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer(method)
            .await
            .unwrap_or_else(|why| panic!("no answer: {why}"))
    }

    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// As [`Client::answer_to`]; or why there is none.
    pub async fn try_answer(&mut self, method: &str) -> Result<Answer, String> {
        loop {
            match message::answer(&self.got, method, self.end == Some(End::Clean)) {
                Read::Whole(answer, used) => {
                    self.got.drain(..used);
                    return Ok(answer);
                }
                Read::Bad(why) => {
                    return Err(format!(
                        "{why} in {:?}",
                        self.got.escape_ascii().to_string()
                    ));
                }
                Read::More if self.end.is_some() => {
                    return Err(format!(
                        "{:?} after {:?}",
                        self.end,
                        self.got.escape_ascii().to_string()
                    ));
                }
                Read::More => self.more().await,
            };
        }
    }

    /// Sends a request and waits for the answer.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        let method = bytes
            .as_ref()
            .split(|c| *c == b' ')
            .next()
            .unwrap_or_default()
            .to_vec();
        self.send(bytes).await;
        self.answer_to(&String::from_utf8_lossy(&method)).await
    }

    /// Writes this again and again until an answer comes, however long the buffers on the way take to fill.
    pub async fn push_until_answered(&mut self, bytes: &[u8]) -> Answer {
        let (mut from, mut to) = tokio::io::split(&mut self.stream);
        let mut buffer = [0; 16 << 10];
        let push = async {
            while to.write_all(bytes).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let both = async {
            tokio::select! { n = from.read(&mut buffer) => n.unwrap_or(0), () = push => 0 }
        };
        let n = soon("an answer", both).await;
        self.got.extend_from_slice(&buffer[..n]);
        self.answer().await
    }

    /// `GET target` from `app.lan` with these field lines.
    pub async fn get(&mut self, target: &str, lines: &str) -> Answer {
        self.ask(format!(
            "GET {target} HTTP/1.1\r\nHost: app.lan\r\n{lines}\r\n"
        ))
        .await
    }

    /// Waits for the end of the stream; everything that came before it stays in `got`.
    pub async fn closed(&mut self) -> End {
        while self.more().await {}
        self.end.unwrap_or(End::Cut)
    }

    /// Waits until so many bytes are there.
    pub async fn at_least(&mut self, n: usize) {
        while self.got.len() < n {
            assert!(
                self.more().await,
                "the end before {n} bytes: {:?}",
                self.got.escape_ascii().to_string()
            );
        }
    }
}

/// A client certificate with its key, as a device holds it.
#[derive(Clone)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: Vec<u8>,
}

/// A client of one version, with a certificate or without, that resumes its sessions.
pub fn config(
    identity: Option<&Identity>,
    alpn: &str,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    });
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match identity {
        Some(Identity { chain, key }) => builder
            .with_client_auth_cert(chain.clone(), PrivateKeyDer::Pkcs8(key.clone().into()))
            .expect("a key that belongs to its certificate"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Arc::new(config)
}

static CONFIG: LazyLock<ClientConfig> = LazyLock::new(|| {
    // One quick group: what is measured here is not the handshake.
    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
});

/// Takes every certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
