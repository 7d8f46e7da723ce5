//! A server that says whatever a test likes, in plain HTTP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use edgevip::model::ApiAccess;

pub struct Liar {
    port: u16,
}

/// The head of an answer without an end.
pub const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

impl Liar {
    /// Each connection is one run of `talk`, on a thread of its own.
    pub fn saying(talk: impl Fn(&mut Talk) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let talk = Arc::new(talk);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let talk = talk.clone();
                let mut connection = Talk { stream: stream.unwrap(), number };
                thread::spawn(move || talk(&mut connection));
            }
        });
        Self { port }
    }

    /// One answer to whatever is asked, on each connection.
    pub fn answering(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::saying(move |it| {
            while !it.request().is_empty() {
                it.say(&answer);
            }
        })
    }

    pub fn access(&self) -> ApiAccess {
        ApiAccess {
            server: format!("http://127.0.0.1:{}", self.port),
            dial: None,
            tls_server_name: None,
            ca: None,
            insecure: false,
            client: None,
            token: None,
            proxy: None,
            source: "the test".into(),
            remarks: vec![],
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// One connection.
pub struct Talk {
    pub stream: TcpStream,
    /// How many there were before.
    pub number: usize,
}

impl Talk {
    /// Head and body of the next request; empty when there is none.
    pub fn request(&mut self) -> String {
        let head = self.until(|it| it.ends_with("\r\n\r\n"));
        let length = head.lines().find_map(|it| it.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |it| it.parse().unwrap());
        let end = head.len() + length;
        let mut body = String::new();
        if end > head.len() {
            body = self.until(|it| it.len() == length);
        }
        head + &body
    }

    pub fn say(&mut self, text: &str) {
        self.say_bytes(text.as_bytes());
    }

    pub fn say_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn wait_for_end(&mut self) {
        std::io::copy(&mut self.stream, &mut std::io::sink()).ok();
    }

    fn until(&mut self, done: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !done(&text) && self.stream.read(&mut byte).is_ok_and(|it| it > 0) {
            text.push(byte[0].into());
        }
        text
    }
}

/// A complete answer.
pub fn answer(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}
