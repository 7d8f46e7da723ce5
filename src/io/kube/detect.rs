//! Finding an address of the API server that its certificate is made out to.

use std::time::Duration;

use rustls::pki_types::ServerName;

use super::credentials::blind_tls;
use crate::io::clock;
use crate::io::http::{HostPort, Timed, dial, shake_hands};
use crate::wire::kube::certificate;

/// The URL of the API server that listens on this port of this host, by the first address
/// of its certificate that accepts a TLS connection.
pub fn detect(port: u16) -> Result<String, String> {
    let here = HostPort { host: "127.0.0.1".into(), port };
    let leaf = leaf(&here, FIRST_TIMEOUT)?;
    let addresses = certificate::addresses(&leaf);
    for address in addresses.iter().take(MAX_TRIED) {
        let at = HostPort { host: address.to_string(), port };
        if self::leaf(&at, TIMEOUT).is_ok() {
            return Ok(format!("https://{at}"));
        }
    }
    Err(format!("none of the addresses in the certificate of {here} answers: {addresses:?}"))
}

const FIRST_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_TRIED: usize = 32;

/// The certificate that the server shows, whatever it is worth.
fn leaf(at: &HostPort, timeout: Duration) -> Result<Vec<u8>, String> {
    let until = clock::now() + timeout;
    let name = ServerName::try_from(at.host.clone()).map_err(|error| error.to_string())?;
    let socket = dial(at, until).map_err(|error| format!("{at}: {error}"))?;
    let tls = shake_hands(&blind_tls()?, &name, &mut Timed { socket: &socket, until })
        .map_err(|error| format!("{at}: {error}"))?;
    let leaf = tls.peer_certificates().and_then(|it| it.first());
    Ok(leaf.ok_or_else(|| format!("{at} shows no certificate"))?.to_vec())
}
