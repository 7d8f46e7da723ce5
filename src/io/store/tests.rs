use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::errno::Errno;

use super::*;
use crate::model::EntryId;
use crate::wire::store::tests::full;

const MACHINE: u64 = 0x6c3f_0a9b_e1d2_5478;

#[test]
fn what_is_written_is_loaded_and_nobody_else_can_read_it() {
    let above = scratch("written");
    let store = Store::new(&above.join("edgevip"), None, MACHINE);
    assert_eq!(store.load().unwrap(), None);
    for record in [StoreRecord::default(), full(), numbered(3)] {
        store.write(&record).unwrap();
        assert_eq!(store.load().unwrap(), Some(record));
    }
    assert_eq!(store.file(), above.join("edgevip/quorum.json"));
    assert_eq!(mode(&above.join("edgevip")), 0o700);
    assert_eq!(mode(store.file()), 0o600);
    assert_eq!(names(&above.join("edgevip")), ["quorum.json"]);
    fs::remove_dir_all(above).unwrap();
}

#[test]
fn each_instance_has_its_own() {
    let folder = scratch("instances");
    let (a, b) = (Store::new(&folder, None, MACHINE), Store::new(&folder, Some("b"), MACHINE));
    a.write(&numbered(1)).unwrap();
    assert_eq!(b.load().unwrap(), None);
    b.write(&numbered(2)).unwrap();
    assert_eq!(a.load().unwrap(), Some(numbered(1)));
    assert_eq!(names(&folder), ["quorum-b.json", "quorum.json"]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn only_the_last_folder_is_made() {
    let above = scratch("above");
    let store = Store::new(&above.join("a/b"), None, MACHINE);
    assert_eq!(store.load().unwrap(), None);
    let fault = store.write(&full()).unwrap_err();
    assert_eq!(fault.code(), "unwritable");
    let expected = format!("there is no folder {}", above.join("a").display());
    assert!(fault.to_string().contains(&expected), "{fault}");
    assert_eq!(names(&above), [""; 0]);
    fs::remove_dir_all(above).unwrap();
}

#[test]
fn a_bad_file_is_named_and_never_written_over() {
    let folder = scratch("bad");
    let store = Store::new(&folder, None, MACHINE);
    let whole = store::encode(&full(), MACHINE);
    let foreign = store::encode(&full(), 7);
    let mut bad: Vec<(&str, Vec<u8>)> =
        (0..whole.len()).map(|it| ("torn", whole[..it].to_vec())).collect();
    bad.extend((whole.len() - 40..whole.len()).map(|place| {
        let mut bent = whole.clone();
        bent[place] ^= 1;
        ("corrupt", bent)
    }));
    bad.push(("corrupt", vec![b'x'; LONGEST + 10]));
    bad.push(("foreign", foreign));
    bad.push(("newer", b"edgevip-store 2 \n".to_vec()));
    for (code, bytes) in bad {
        fs::write(store.file(), &bytes).unwrap();
        for fault in [store.load().unwrap_err(), store.write(&numbered(1)).unwrap_err()] {
            assert_eq!(fault.code(), code, "{fault}");
            let text = fault.to_string();
            assert!(text.starts_with(&store.file().display().to_string()), "{text}");
            assert!(text.contains("remove it"), "{text}");
        }
        assert_eq!(fs::read(store.file()).unwrap(), bytes);
    }
    fs::remove_file(store.file()).unwrap();
    assert_eq!(store.load().unwrap(), None);
    store.write(&numbered(1)).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn every_bit_of_a_file_counts() {
    let folder = scratch("bits");
    let store = Store::new(&folder, None, MACHINE);
    let whole = store::encode(&full(), MACHINE);
    for place in 0..whole.len() {
        let mut bent = whole.clone();
        bent[place] ^= 0x10;
        fs::write(store.file(), bent).unwrap();
        assert!(store.load().is_err(), "byte {place}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_no_plain_file_is_not_followed() {
    let folder = scratch("plain");
    let store = Store::new(&folder, None, MACHINE);
    symlink("/nonexistent/elsewhere", store.file()).unwrap();
    for fault in [store.load().unwrap_err(), store.write(&full()).unwrap_err()] {
        assert_eq!(fault.code(), "unreadable", "{fault}");
    }
    fs::remove_file(store.file()).unwrap();
    fs::create_dir(store.file()).unwrap();
    assert_eq!(store.load().unwrap_err().code(), "unreadable");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "a file where a folder should be").unwrap();
    assert_eq!(store.load().unwrap_err().code(), "unreadable");
    fs::remove_file(folder).unwrap();
}

#[test]
fn who_was_killed_before_renaming_has_written_nothing() {
    let folder = scratch("killed");
    let store = Store::new(&folder, None, MACHINE);
    let draft = folder.join("quorum.json.new");
    fs::write(&draft, &store::encode(&full(), MACHINE)[..50]).unwrap();
    assert_eq!(store.load().unwrap(), None);
    store.write(&numbered(1)).unwrap();
    let precious = folder.join("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, &draft).unwrap();
    assert_eq!(store.load().unwrap(), Some(numbered(1)));
    store.write(&numbered(2)).unwrap();
    assert_eq!(store.load().unwrap(), Some(numbered(2)));
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
    assert_eq!(names(&folder), ["precious", "quorum.json"]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_a_whole_record() {
    let folder = scratch("moment");
    let store = Store::new(&folder, None, MACHINE);
    let mut last = 0;
    for round in 0..20 {
        let mut child = child("the_writer_that_is_killed", &folder);
        while round > 0 && store.load().unwrap().is_none_or(|it| it.floor == last) {
            thread::yield_now();
        }
        thread::sleep(Duration::from_micros(round * 150));
        child.kill().unwrap();
        child.wait().unwrap();
        let floor = store.load().unwrap().map_or(0, |it| it.floor);
        assert!(floor >= last, "{floor} after {last}");
        last = floor;
    }
    assert!(last > 0);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "the child of the test above"]
fn the_writer_that_is_killed() {
    let store = Store::new(&test_folder(), None, MACHINE);
    let next = store.load().unwrap().map_or(1, |it| it.floor + 1);
    for floor in next.. {
        store.write(&numbered(floor)).unwrap();
    }
}

#[test]
fn a_full_or_read_only_disk_leaves_what_was_there() {
    let folder = scratch("disk");
    let output = Command::new("unshare")
        .args(["-Urm", "/bin/sh", "-c"])
        .arg("mount -t tmpfs -o size=64k none \"$EDGEVIP_TEST_FOLDER\" && exec \"$0\" \"$@\"")
        .args([std::env::current_exe().unwrap().as_os_str(), "--exact".as_ref()])
        .args(["--ignored", "--nocapture", "io::store::tests::the_process_with_a_disk_of_its_own"])
        .env("EDGEVIP_TEST_FOLDER", &folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("1 passed"), "{told}{errors}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "the child of the test above"]
fn the_process_with_a_disk_of_its_own() {
    let folder = test_folder();
    let store = Store::new(&folder, None, MACHINE);
    store.write(&numbered(1)).unwrap();

    let filler = folder.join("filler");
    let mut open = File::create(&filler).unwrap();
    while open.write_all(&[0; 4096]).is_ok() {}
    let fault = store.write(&full()).unwrap_err();
    assert_eq!(fault.code(), "full", "{fault}");
    assert_eq!(store.load().unwrap(), Some(numbered(1)));
    assert_eq!(names(&folder), ["filler", "quorum.json"]);
    drop(open);
    fs::remove_file(filler).unwrap();
    store.write(&numbered(2)).unwrap();

    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&folder).status().unwrap();
    assert!(remounted.success());
    let fault = store.write(&full()).unwrap_err();
    assert_eq!(fault.code(), "read-only", "{fault}");
    assert_eq!(store.load().unwrap(), Some(numbered(2)));
}

#[test]
fn faults_of_the_system_have_a_code_and_a_remedy() {
    let table = [
        (Errno::ENOSPC, "full", "free some"),
        (Errno::EDQUOT, "full", "quota"),
        (Errno::EROFS, "read-only", "name another"),
        (Errno::EACCES, "read-only", "let this process write"),
        (Errno::EPERM, "read-only", "let this process write"),
        (Errno::EIO, "unwritable", "mend"),
    ];
    for (errno, code, remedy) in table {
        let fault = StoreFault::of_write("/var/lib/edgevip/quorum.json".into(), errno.into());
        assert_eq!(fault.code(), code);
        let text = fault.to_string();
        assert!(text.contains("/var/lib/edgevip/quorum.json: "), "{text}");
        assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn the_thread_answers_each_record_once() {
    let folder = scratch("thread");
    let store = Store::new(&folder.join("edgevip"), None, MACHINE);
    let (tell, told) = channel();
    let deliver: DeliverStored = Arc::new(move |number, why| tell.send((number, why)).unwrap());
    let thread = StoreThread::start(store.clone(), deliver).unwrap();
    for number in 1..=3 {
        thread.write(number, numbered(number));
        assert_eq!(told.recv_timeout(LONG).unwrap(), (number, None));
        assert_eq!(store.load().unwrap(), Some(numbered(number)));
    }
    fs::write(store.file(), "{}").unwrap();
    thread.write(4, numbered(4));
    let (number, why) = told.recv_timeout(LONG).unwrap();
    assert_eq!(number, 4);
    assert!(why.unwrap().contains("is damaged"));

    drop(thread);
    assert!(told.recv_timeout(LONG).is_err(), "the thread has ended");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_thread_that_is_given_too_much_refuses_the_rest() {
    let folder = scratch("much");
    let (tell, told) = channel();
    let (open, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let deliver: DeliverStored = Arc::new(move |number, why: Option<String>| {
        tell.send((number, why.is_some())).unwrap();
        if number == 1 {
            gate.lock().unwrap().recv().unwrap();
        }
    });
    let thread = StoreThread::start(Store::new(&folder, None, MACHINE), deliver).unwrap();
    thread.write(1, numbered(1));
    assert_eq!(told.recv_timeout(LONG).unwrap(), (1, false));
    thread.write(2, numbered(2));
    thread.write(3, numbered(3));
    assert_eq!(told.recv_timeout(LONG).unwrap(), (3, true));
    open.send(()).unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap(), (2, false));
    drop(thread);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "prints what a write costs in the folder for temporary files"]
fn the_price_of_a_write() {
    let folder = scratch("price");
    let store = Store::new(&folder, None, MACHINE);
    let mut spent: Vec<_> = (0..200)
        .map(|number| {
            let started = crate::io::clock::now();
            store.write(&StoreRecord { floor: number, ..full() }).unwrap();
            crate::io::clock::now().saturating_since(started)
        })
        .collect();
    spent.sort();
    println!("median {:?}, of 100 the 99th {:?}, worst {:?}", spent[100], spent[198], spent[199]);
    fs::remove_dir_all(folder).unwrap();
}

const LONG: Duration = Duration::from_secs(30);

fn numbered(floor: u64) -> StoreRecord {
    StoreRecord { floor, entry: None, committed: EntryId::default() }
}

fn child(test: &str, folder: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", &format!("io::store::tests::{test}")])
        .env("EDGEVIP_TEST_FOLDER", folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn test_folder() -> PathBuf {
    std::env::var_os("EDGEVIP_TEST_FOLDER").expect("started by another test").into()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).unwrap();
    let mut all: Vec<_> = all.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("edgevip-{}-store-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}
