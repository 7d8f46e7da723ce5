//! A kubeconfig; behind a zero byte, what is asked for as `kubernetes_addr`.
#![no_main]

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use edgevip::config::kubeconfig::{Access, access, keep_off};
use edgevip::config::{KubeSettings, VipSetting, explain};
use edgevip::io::http::Url;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(bytes) else { return Corpus::Reject };
    let (content, server) = match text.split_once('\0') {
        Some((content, server)) => (content, Some(server.to_owned())),
        None => (text, None),
    };
    for path in ["/asked", "/etc/kubernetes/admin.conf"] {
        let kube = KubeSettings {
            kubeconfigs: vec![path.into()],
            explicit: path == "/asked",
            server: server.clone(),
            detect: false,
            port: 6443,
            in_cluster: None,
        };
        let read = |it: &Path| match it == Path::new(path) {
            true => Ok(content.to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        if let Ok(found) = access(&kube, &vips(), &read) {
            leads_past_the_vips(found);
        }
    }
    Corpus::Keep
});

const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 42);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x42);
const NAME: &str = "api.example";

fn vips() -> [VipSetting; 3] {
    [VipSetting::Address(V4.into()), VipSetting::Address(V6.into()), VipSetting::Name(NAME.into())]
}

fn leads_past_the_vips(found: Access) {
    let _ = explain::access(&found);
    let Access { mut api, .. } = found;
    let settled = api.clone();
    keep_off(&mut api, &vips()).expect("a server that was accepted");
    assert_eq!(api, settled);
    let server = host(&api.server);
    assert!(api.dial.is_some() || !is_vip(&server), "{}", api.server);
    if let Some(proxy) = &api.proxy {
        assert!(!is_vip(&host(proxy)), "{proxy}");
    }
}

fn host(url: &str) -> String {
    let Some(Url { at, .. }) = Url::parse(url) else { panic!("{url:?} was accepted") };
    at.host
}

fn is_vip(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case(NAME)
        || host.parse().is_ok_and(|it: IpAddr| [V4.into(), V6.into()].contains(&it.to_canonical()))
        || as_resolver_reads(host) == Some(V4)
}

/// The C library takes more for an IPv4 address than four decimal numbers.
fn as_resolver_reads(host: &str) -> Option<Ipv4Addr> {
    unsafe extern "C" {
        fn inet_aton(text: *const c_char, address: *mut u32) -> c_int;
    }
    let host = CString::new(host).ok()?;
    let mut address = 0;
    // SAFETY: the text ends in a zero byte, and the address has room for four bytes.
    let understood = unsafe { inet_aton(host.as_ptr(), &mut address) };
    (understood != 0).then(|| Ipv4Addr::from(address.to_ne_bytes()))
}
