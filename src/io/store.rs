//! What a member of a quorum keeps on disk: one file, replaced as a whole by a thread of its
//! own. A file that is there and not good is never written over.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

use nix::libc;

use crate::model::StoreRecord;
use crate::wire::store::{self, LONGEST, StoreFlaw};

/// A member's file.
#[derive(Clone, Debug)]
pub struct Store {
    file: PathBuf,
    machine: u64,
}

impl Store {
    /// The store of an instance in this folder; nothing is read or made yet. `machine` is
    /// [`crate::io::process::machine_id`].
    pub fn new(folder: &Path, instance: Option<&str>, machine: u64) -> Self {
        let name = match instance {
            Some(instance) => format!("quorum-{instance}.json"),
            None => "quorum.json".into(),
        };
        Self { file: folder.join(name), machine }
    }

    /// Where the record is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What was written last, and will survive whatever happens; `None`: nothing yet.
    pub fn load(&self) -> Result<Option<StoreRecord>, StoreFault> {
        let found = self.read()?;
        // Who wrote it may have been killed before its own.
        if found.is_some() {
            settle(&self.file).map_err(|it| StoreFault::Unreadable(self.file.clone(), it))?;
        }
        Ok(found)
    }

    /// Writes the record, so that it survives whatever happens. What was there before is
    /// still there, whole, if this fails.
    pub fn write(&self, record: &StoreRecord) -> Result<(), StoreFault> {
        self.read()?;
        let written = make_folder(&self.file)
            .and_then(|()| replace(&self.file, &store::encode(record, self.machine)));
        written.map_err(|it| StoreFault::of_write(self.file.clone(), it))
    }

    fn read(&self) -> Result<Option<StoreRecord>, StoreFault> {
        let bytes = read_plain(&self.file, LONGEST as u64)
            .map_err(|it| StoreFault::Unreadable(self.file.clone(), it))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let record = store::decode(&bytes, self.machine);
        record.map(Some).map_err(|it| StoreFault::Flawed(self.file.clone(), it))
    }
}

/// Why a record cannot be read or written.
#[derive(Debug)]
pub enum StoreFault {
    /// The file is there and cannot be believed.
    Flawed(PathBuf, StoreFlaw),
    /// There is no room for it.
    Full(PathBuf, io::Error),
    /// It must not be written there.
    ReadOnly(PathBuf, io::Error),
    /// The system does not let us read it.
    Unreadable(PathBuf, io::Error),
    /// It could not be written.
    Unwritable(PathBuf, io::Error),
}

impl StoreFault {
    fn of_write(file: PathBuf, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(file, error),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly(file, error)
            }
            _ => Self::Unwritable(file, error),
        }
    }

    /// The code that log, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Flawed(_, flaw) => flaw.code(),
            Self::Full(..) => "full",
            Self::ReadOnly(..) => "read-only",
            Self::Unreadable(..) => "unreadable",
            Self::Unwritable(..) => "unwritable",
        }
    }
}

/// What happened, and what to do about it.
impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ANEW: &str = "remove it, and this member learns from the others what it was told, \
                            and has no vote before";
        match self {
            Self::Flawed(file, flaw) => {
                let file = file.display();
                match flaw {
                    StoreFlaw::Corrupt(_) | StoreFlaw::Torn => write!(f, "{file} {flaw}; {ANEW}"),
                    StoreFlaw::Foreign { .. } => write!(
                        f,
                        "{file} {flaw}: copied from there, or this machine was given another id; \
                         {ANEW}"
                    ),
                    StoreFlaw::Newer(_) => {
                        write!(f, "{file} {flaw}; run the version that wrote it, or {ANEW}")
                    }
                }
            }
            Self::Full(file, error) => {
                let file = file.display();
                write!(f, "no room for {file}: {error}; free some there, or raise its quota")
            }
            Self::ReadOnly(file, error) => {
                let file = file.display();
                write!(
                    f,
                    "must not write {file}: {error}; let this process write to that folder, or \
                     name another"
                )
            }
            Self::Unreadable(file, error) => {
                let file = file.display();
                write!(f, "cannot read {file}: {error}; let this process read it, or {ANEW}")
            }
            Self::Unwritable(file, error) => {
                let file = file.display();
                write!(f, "cannot write {file}: {error}; mend that folder, or name another")
            }
        }
    }
}

/// Writes records by a thread of its own: a disk that hangs costs no time but the writer's.
/// Dropping it ends the thread when it has written what it was given.
#[derive(Debug)]
pub struct StoreThread {
    orders: SyncSender<(u64, StoreRecord)>,
    deliver: Tell,
}

/// Where the news go that a record is on disk, or why it is not.
pub type DeliverStored = Arc<dyn Fn(u64, Option<String>) + Send + Sync>;

impl StoreThread {
    /// Starts the thread. `deliver` must not block; it is called on the thread, and on the
    /// caller's own where a record is refused.
    pub fn start(store: Store, deliver: DeliverStored) -> io::Result<Self> {
        let (orders, queue) = mpsc::sync_channel::<(u64, StoreRecord)>(1);
        let tell = deliver.clone();
        thread::Builder::new().name("store".into()).stack_size(STACK).spawn(move || {
            for (number, record) in queue {
                tell(number, store.write(&record).err().map(|it| it.to_string()));
            }
        })?;
        Ok(Self { orders, deliver: Tell(deliver) })
    }

    /// Hands a record over. There is exactly one answer.
    pub fn write(&self, number: u64, record: StoreRecord) {
        let refused = match self.orders.try_send((number, record)) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "earlier records are still being written",
            Err(TrySendError::Disconnected(_)) => "the thread that writes records has ended",
        };
        (self.deliver.0)(number, Some(refused.into()));
    }
}

/// Frames are larger where nothing is inlined.
const STACK: usize = if cfg!(debug_assertions) { 512 } else { 128 } * 1024;

struct Tell(DeliverStored);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// The content of a plain file, or one byte more than `longest` of it; `None`: there is none.
pub(in crate::io) fn read_plain(file: &Path, longest: u64) -> io::Result<Option<Vec<u8>>> {
    match fs::symlink_metadata(file) {
        Ok(it) if it.is_file() => {}
        Ok(_) => return Err(io::Error::other("it is no plain file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(file)?;
    open.take(longest + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Puts a file with this content in the place of whatever is there, for this user alone: at
/// each moment, power cuts included, there is either the whole of the one or of the other.
pub(in crate::io) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = beside(file, "new");
    // What an earlier process left there may be anybody's to write.
    remove(&draft)?;
    let written = draw_up(&draft, bytes).and_then(|it| fs::rename(&draft, file).map(|()| it));
    if written.is_err() {
        let _ = remove(&draft);
    }
    // Under its new name a file of a FAT is empty until it is written once more.
    written.and_then(|it| it.sync_all()).and_then(|()| settle(file))
}

/// The file's name with something behind it.
pub(in crate::io) fn beside(file: &Path, more: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(more);
    name.into()
}

/// Makes the folder of this file, for this user alone, if there is none; not what is above.
fn make_folder(file: &Path) -> io::Result<()> {
    let Some(folder) = file.parent().filter(|it| !it.exists()) else { return Ok(()) };
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => settle(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = folder.parent().unwrap_or(folder).display();
            Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no folder {above}")))
        }
        Err(error) => Err(error),
    }
}

fn draw_up(draft: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    Ok(open)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Waits until the names in the folder of this file are on disk.
fn settle(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
