use std::path::PathBuf;

/// Where an API server is and how to be let in, settled from a kubeconfig or a Pod's
/// service account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiAccess {
    /// Its address as a URL: `https://host:port`, maybe with a path.
    pub server: String,
    /// Connect here, `host:port`, instead of to the URL's host.
    pub dial: Option<String>,
    /// The name its certificate must carry, where that is not the URL's host.
    pub tls_server_name: Option<String>,
    /// Whom to trust; `None`: nobody, which only `insecure` makes work.
    pub ca: Option<Bytes>,
    /// Do not look at its certificate at all.
    pub insecure: bool,
    /// Certificate and key to show.
    pub client: Option<ClientCertificate>,
    /// Token to send.
    pub token: Option<Token>,
    /// Go through this HTTP proxy.
    pub proxy: Option<String>,
    /// Where this was read from, for people.
    pub source: String,
    /// What a user should know about it, such as that the server is not verified.
    pub remarks: Vec<String>,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// The chain.
    pub certificate: Bytes,
    /// The key.
    pub key: Bytes,
}

/// Bytes, or where to find them. A file is read again when it has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bytes {
    /// In this file.
    File(PathBuf),
    /// These.
    Inline(Vec<u8>),
}

/// A bearer token, or where to find it. A file is read again when it has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Token {
    /// In this file.
    File(PathBuf),
    /// This.
    Inline(String),
}
