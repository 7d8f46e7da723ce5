use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_io::{Async, Timer};
use smol::LocalExecutor;
use smol::channel::Sender;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Ask, BREATHER, Order, PATIENCE, limited, orders, persistently};
use crate::model::ClusterCall;

/// Where an instance listens: the first of these where it can.
pub fn socket_paths(instance: &str) -> Vec<PathBuf> {
    paths(instance, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))
}

fn paths(instance: &str, runtime_dir: Option<PathBuf>) -> Vec<PathBuf> {
    // OpenWrt has no /run.
    [Some(PathBuf::from("/run")), runtime_dir, Some(PathBuf::from("/var/run"))]
        .into_iter()
        .flatten()
        .map(|it| it.join("edgevip").join(format!("{instance}.sock")))
        .collect()
}

/// Answers `status` on the first of these sockets that can be had, and hands on orders; never
/// returns. The file goes when the future is dropped.
pub async fn serve_unix(paths: &[PathBuf], answer: Answer, orders: Sender<Order>) {
    let Some(what) = paths.first().map(|it| it.display().to_string()) else { return };
    let listener = persistently(&what, || bind_first(paths)).await;
    let executor = LocalExecutor::new();
    let accept = async {
        let mut waiting: Vec<smol::Task<()>> = Vec::new();
        loop {
            match listener.socket.accept().await {
                // One after another: nobody can keep the others waiting for long. Only what
                // comes of an order takes its time.
                Ok((stream, _)) => {
                    let order = limited(PATIENCE, converse(stream, &answer)).await;
                    let Ok(Some((stream, call))) = order else { continue };
                    waiting.retain(|it| !it.is_finished());
                    if waiting.len() < orders::MOST {
                        let relay = orders::relay(stream, call, orders.clone(), None);
                        waiting.push(executor.spawn(relay));
                    } else {
                        orders::tell(stream, Err("too many orders at one time".into())).await;
                    }
                }
                Err(error) => {
                    log::debug!(error:%; "cannot accept a connection");
                    Timer::after(BREATHER).await;
                }
            }
        }
    };
    executor.run(accept).await
}

/// Asks a running instance for its status, as JSON.
pub fn ask_socket(instance: &str, paths: &[PathBuf]) -> io::Result<String> {
    ask(instance, paths, "status\n", CLIENT_PATIENCE)
}

/// Says one line to a running instance and reads all that it answers.
pub(super) fn ask(
    instance: &str,
    paths: &[PathBuf],
    request: &str,
    patience: Duration,
) -> io::Result<String> {
    let mut whys = Vec::new();
    for path in paths {
        match UnixStream::connect(path) {
            Ok(stream) => {
                return converse_blocking(stream, request, patience)
                    .map_err(|it| explained(path, &it, patience));
            }
            Err(error) => whys.push(format!("{}: {error}", path.display())),
        }
    }
    let whys = whys.join("; ");
    let why = format!("no edgevip runs here as instance {instance}: {whys}");
    Err(io::Error::new(io::ErrorKind::NotConnected, why))
}

const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_REQUEST: usize = 1024;
const LONGEST_ANSWER: u64 = 16 * 1024 * 1024;

fn converse_blocking(
    mut stream: UnixStream,
    request: &str,
    patience: Duration,
) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut text)?;
    if text.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
}

fn explained(path: &Path, error: &io::Error, patience: Duration) -> io::Error {
    let path = path.display();
    let why = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the edgevip at {path} has not answered within {patience:?}")
        }
        _ => format!("the edgevip at {path} has not answered: {error}"),
    };
    io::Error::new(error.kind(), why)
}

/// A socket in the file system, which removes its file.
struct Listener {
    socket: Async<UnixListener>,
    path: PathBuf,
    inode: u64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_first(paths: &[PathBuf]) -> io::Result<Listener> {
    let mut whys = Vec::new();
    for path in paths {
        match bind(path) {
            Ok(listener) => return Ok(listener),
            Err(error) => whys.push(format!("{}: {error}", path.display())),
        }
    }
    Err(io::Error::other(whys.join("; ")))
}

fn bind(path: &Path) -> io::Result<Listener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    remove_stale(path)?;
    let socket = Async::<UnixListener>::bind(path)?;
    let inode = fs::symlink_metadata(path)?.ino();
    let listener = Listener { socket, path: path.into(), inode };
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(it) if it.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another edgevip answers here; give each its own instance name",
        )),
    }
}

/// Answers what can be answered at once; an order that may be given is left to be relayed.
async fn converse(
    mut stream: Async<UnixStream>,
    answer: &Answer,
) -> io::Result<Option<(Async<UnixStream>, ClusterCall)>> {
    let mut request = Vec::new();
    let mut chunk = [0; LONGEST_REQUEST];
    while !request.contains(&b'\n') && request.len() < LONGEST_REQUEST {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            break;
        }
        request.extend_from_slice(chunk.get(..length).unwrap_or_default());
    }
    let body = match request.as_slice() {
        b"status\n" => answer(Ask::Status).1,
        order if order.starts_with(orders::WORD.as_bytes()) => match orders::read(order, &stream) {
            Ok(call) => return Ok(Some((stream, call))),
            Err(why) => format!("error {why}"),
        },
        _ => "{\"error\":\"the requests are: status, and order with a call\"}".into(),
    };
    stream.write_all(body.as_bytes()).await?;
    stream.write_all(b"\n").await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::io::serve::order_socket;
    use crate::model::NodeName;

    #[test]
    fn the_path_is_in_run_or_in_the_users_own_place() {
        let all = paths("edgevip", Some("/run/user/1000".into()));
        let expected = ["/run", "/run/user/1000", "/var/run"];
        assert_eq!(all, expected.map(|it| PathBuf::from(it).join("edgevip/edgevip.sock")));
        let expected = ["/run/edgevip/b.sock", "/var/run/edgevip/b.sock"];
        assert_eq!(paths("b", None), expected.map(PathBuf::from));
    }

    #[test]
    fn a_status_is_asked_for_and_the_file_goes_with_the_server() {
        let folder = scratch("asks");
        let path = folder.join("new/a.sock");
        let at = path.clone();
        let (text, mode) = with_server(&path, "{\"a\":1}", move || {
            let mode = fs::metadata(&at).unwrap().mode();
            (ask_socket("a", &[at]).unwrap(), mode)
        });
        assert_eq!(text, "{\"a\":1}\n");
        assert_eq!(mode & 0o777, 0o660);
        assert!(!path.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_long_status_arrives_whole() {
        let folder = scratch("long");
        let path = folder.join("a.sock");
        let at = path.clone();
        let long = "x".repeat(3_000_000);
        let text = with_server(&path, &long, move || ask_socket("a", &[at]).unwrap());
        assert_eq!(text.len(), long.len() + 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn orders_are_handed_on_and_keep_nobody_waiting() {
        let folder = scratch("orders");
        let path = folder.join("a.sock");
        let at = [path.clone()];
        with_server(&path, "{}", move || {
            let call = |name: &str| ClusterCall::Drain(NodeName(name.into()));
            assert_eq!(order_socket("a", &at, &call("n")).unwrap(), Ok("Drain n".into()));
            assert_eq!(order_socket("a", &at, &call("")).unwrap(), Err("nobody".into()));
            let mut slow = UnixStream::connect(&at[0]).unwrap();
            slow.write_all(b"order {\"Drain\":\"slow\"}\n").unwrap();
            assert_eq!(ask_socket("a", &at).unwrap(), "{}\n");
            assert_eq!(order_socket("a", &at, &call("n")).unwrap(), Ok("Drain n".into()));
            let nonsense = ask("a", &at, "order {}\n", CLIENT_PATIENCE).unwrap();
            assert!(nonsense.starts_with("error not an order: "), "{nonsense}");
        });
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn clients_that_say_nothing_or_nonsense_keep_nobody_waiting() {
        let folder = scratch("nonsense");
        let path = folder.join("a.sock");
        let at = path.clone();
        with_server(&path, "{}", move || {
            let _silent = UnixStream::connect(&at).unwrap();
            let mut nonsense = UnixStream::connect(&at).unwrap();
            nonsense.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            nonsense.write_all(&[b'x'; LONGEST_REQUEST]).unwrap();
            let mut text = String::new();
            nonsense.read_to_string(&mut text).unwrap();
            assert!(text.contains("error"), "{text}");
            assert_eq!(ask_socket("a", &[at]).unwrap(), "{}\n");
        });
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn where_nobody_listens_the_error_names_the_instance_and_the_places() {
        let missing = PathBuf::from("/nonexistent/b.sock");
        let error = ask_socket("b", &[missing]).unwrap_err().to_string();
        let start = "no edgevip runs here as instance b: /nonexistent/b.sock: ";
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn a_server_that_hangs_is_named() {
        let folder = scratch("hangs");
        let path = folder.join("a.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = ask_socket("a", &[path]).unwrap_err().to_string();
        assert!(error.ends_with("has not answered within 2s"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else() {
        let folder = scratch("stale");
        let (stale, taken, file) =
            (folder.join("stale.sock"), folder.join("taken.sock"), folder.join("file.sock"));
        drop(UnixListener::bind(&stale).unwrap());
        let _other = UnixListener::bind(&taken).unwrap();
        fs::write(&file, "precious").unwrap();
        assert!(bind(&stale).is_ok());
        assert_eq!(bind(&taken).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&taken).is_ok());
        assert_eq!(bind(&file).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_next_place_is_taken_where_the_first_cannot_be_made() {
        let folder = scratch("next");
        let second = folder.join("a.sock");
        let listener = bind_first(&["/proc/edgevip/a.sock".into(), second.clone()]).unwrap();
        assert_eq!(listener.path, second);
        let error = bind_first(&["/proc/edgevip/a.sock".into()]).err().unwrap().to_string();
        assert!(error.starts_with("/proc/edgevip/a.sock: "), "{error}");
        drop(listener);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_socket_that_another_put_in_our_place_is_left_alone() {
        let folder = scratch("other");
        let path = folder.join("a.sock");
        let ours = bind(&path).unwrap();
        fs::rename(&path, folder.join("moved.sock")).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    fn with_server<T: Send + 'static>(
        path: &Path,
        status: &str,
        client: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let status = status.to_owned();
        let answer: Answer = Rc::new(move |_| (200, status.clone()));
        let (paths, folder) = ([path.to_owned()], path.parent().unwrap().to_owned());
        let path = path.to_owned();
        async_io::block_on(async {
            let client = smol::unblock(move || {
                let give_up_at = crate::io::clock::now() + Duration::from_secs(30);
                while !ready(&path) {
                    assert!(crate::io::clock::now() < give_up_at, "no {}", folder.display());
                    std::thread::yield_now();
                }
                client()
            });
            let (orders, given) = smol::channel::bounded::<Order>(4);
            let server = async {
                serve_unix(&paths, answer, orders).await;
                unreachable!()
            };
            let operator = async {
                let mut slow = Vec::new();
                loop {
                    let Order { call, reply } = given.recv().await.unwrap();
                    match call {
                        ClusterCall::Drain(name) if &*name.0 == "slow" => slow.push(reply),
                        ClusterCall::Drain(name) if name.0.is_empty() => {
                            reply.try_send(Err("nobody".into())).unwrap();
                        }
                        ClusterCall::Drain(name) => {
                            reply.try_send(Ok(format!("Drain {name}"))).unwrap();
                        }
                        other => panic!("{other:?}"),
                    }
                }
            };
            smol::future::or(client, smol::future::or(server, operator)).await
        })
    }

    /// The mode is set last of all.
    fn ready(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|it| it.mode() & 0o777 == 0o660)
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("edgevip-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }
}
