//! What a member of a quorum leaves for its next start. It is worth something to one start
//! only, the first after the stop, and only while the same kernel runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::io::process::boot_id;
use crate::io::store::{beside, read_plain, replace};
use crate::model::Farewell;

/// Where an instance leaves it: the first of these where it can.
pub fn farewell_paths(instance: &str) -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    paths(instance, variable("RUNTIME_DIRECTORY"), variable("XDG_RUNTIME_DIR"))
}

/// Leaves it at the first of these places that takes it.
pub fn leave(paths: &[PathBuf], farewell: &Farewell) -> io::Result<()> {
    leave_in(&boot_id(), paths, farewell)
}

/// Takes what was left, so that nobody takes it again.
pub fn take(paths: &[PathBuf]) -> Option<Farewell> {
    take_in(&boot_id(), paths)
}

#[derive(Deserialize, Serialize)]
struct Left {
    boot: String,
    farewell: Farewell,
}

/// Hundreds of promises.
const LONGEST: u64 = 256 * 1024;

/// systemd's variable may name several folders.
fn paths(instance: &str, given: Option<PathBuf>, users: Option<PathBuf>) -> Vec<PathBuf> {
    let given = given.and_then(|it| {
        let first = it.to_str().and_then(|it| it.split(':').next()).map(PathBuf::from);
        first.filter(|it| it.is_absolute())
    });
    let usual = given.unwrap_or_else(|| "/run/edgevip".into());
    let folders = [Some(usual), users.map(|it| it.join("edgevip"))];
    folders.into_iter().flatten().map(|it| it.join(format!("farewell-{instance}.json"))).collect()
}

fn leave_in(boot: &str, paths: &[PathBuf], farewell: &Farewell) -> io::Result<()> {
    let left = Left { boot: boot.into(), farewell: farewell.clone() };
    let text = serde_json::to_vec(&left).expect("plain values with string keys");
    let mut whys = Vec::new();
    for path in paths {
        // The folder is also that of the socket, which others may use.
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        match made.and_then(|()| replace(path, &text)) {
            Ok(()) => return Ok(()),
            Err(error) => whys.push(format!("{}: {error}", path.display())),
        }
    }
    Err(io::Error::other(whys.join("; ")))
}

fn take_in(boot: &str, paths: &[PathBuf]) -> Option<Farewell> {
    let mut all: Vec<_> = paths.iter().filter_map(|it| take_one(it)).collect();
    // Of two, one is from before: an earlier start could not see it or could not remove it.
    let one = if all.len() == 1 { all.pop() } else { None };
    let left: Left = serde_json::from_slice(&one?).ok()?;
    (!boot.is_empty() && left.boot == boot).then_some(left.farewell)
}

/// The content of a file that is gone then.
fn take_one(path: &Path) -> Option<Vec<u8>> {
    let taken = beside(path, "taken");
    fs::rename(path, &taken).ok()?;
    let bytes = read_plain(&taken, LONGEST);
    fs::remove_file(&taken).ok()?;
    bytes.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_managers_folder_goes_first_and_the_users_own_last() {
        let table = [
            (None, None, vec!["/run/edgevip/farewell-a.json"]),
            (Some("/run/ha:/run/other"), None, vec!["/run/ha/farewell-a.json"]),
            (
                Some("relative"),
                Some("/run/user/1000"),
                vec!["/run/edgevip/farewell-a.json", "/run/user/1000/edgevip/farewell-a.json"],
            ),
        ];
        for (given, users, expected) in table {
            let found = paths("a", given.map(PathBuf::from), users.map(PathBuf::from));
            assert_eq!(found, expected.into_iter().map(PathBuf::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_left_is_taken_once() {
        let folder = scratch("once");
        let paths = [folder.join("edgevip/a.json")];
        assert_eq!(take(&paths), None);
        leave(&paths, &Farewell::default()).unwrap();
        leave(&paths, &told()).unwrap();
        assert_eq!(take(&paths), Some(told()));
        assert_eq!(take(&paths), None);
        assert_eq!(fs::read_dir(folder.join("edgevip")).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_was_left_in_another_boot_is_removed_and_not_believed() {
        let folder = scratch("boot");
        let paths = [folder.join("a.json")];
        leave_in("another", &paths, &told()).unwrap();
        assert_eq!(take(&paths), None);
        assert!(!paths[0].exists());
        leave_in("", &paths, &told()).unwrap();
        assert_eq!(take_in("", &paths), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn nonsense_is_removed_and_not_believed() {
        let folder = scratch("nonsense");
        let paths = [folder.join("a.json")];
        leave(&paths, &told()).unwrap();
        let whole = fs::read(&paths[0]).unwrap();
        let mut nonsense: Vec<_> = (0..whole.len()).map(|it| whole[..it].to_vec()).collect();
        nonsense.push(b"{}".to_vec());
        nonsense.push(vec![b' '; 10 * LONGEST as usize]);
        for bytes in nonsense {
            fs::write(&paths[0], bytes).unwrap();
            assert_eq!(take(&paths), None);
            assert!(!paths[0].exists());
        }
        std::os::unix::fs::symlink("/dev/zero", &paths[0]).unwrap();
        assert_eq!(take(&paths), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_removed_is_not_believed() {
        let folder = scratch("stays");
        let paths = [folder.join("a.json")];
        leave(&paths, &told()).unwrap();
        // A folder in the way of the renamed file stands in for a file system that refuses.
        fs::create_dir_all(folder.join("a.json.taken/full")).unwrap();
        assert_eq!(take(&paths), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn of_two_none_is_believed() {
        let folder = scratch("two");
        let paths = [folder.join("a.json"), folder.join("b.json")];
        leave(&paths[1..], &Farewell::default()).unwrap();
        leave(&paths, &told()).unwrap();
        assert_eq!(take(&paths), None);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        leave(&paths[1..], &told()).unwrap();
        assert_eq!(take(&paths), Some(told()));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_next_place_is_taken_where_the_first_does_not_take_it() {
        let folder = scratch("next");
        let paths = ["/proc/edgevip/a.json".into(), folder.join("a.json")];
        leave(&paths, &told()).unwrap();
        assert_eq!(take(&paths), Some(told()));
        let error = leave(&paths[..1], &told()).unwrap_err().to_string();
        assert!(error.starts_with("/proc/edgevip/a.json: "), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    fn told() -> Farewell {
        Farewell { voted: 7, promised_until: 12_340_000_000, promises: Vec::new() }
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("edgevip-{}-bye-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }
}
