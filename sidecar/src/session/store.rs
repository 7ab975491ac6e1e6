//! What outlives the process: the identity, the last snapshot, and the newest version ever in force.
//!
//! Each is one file, so that a leaf and its key, or a credential and its key, never come from two moments. A file is
//! written beside, flushed, and renamed: after a crash either the old or the new one is there, whole.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrider_shared::join::Leaf;
use outrider_shared::session::framing::MESSAGE_BYTES_MAX;
use outrider_shared::snapshot::SignedSnapshot;
use outrider_shared::{ServiceId, SidecarId, TrustDomain};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::gate::Mark;

/// Largest identity or version file, in bytes. A chain, a bundle and two keys take less than 64 KiB.
const SMALL_BYTES_MAX: usize = 256 << 10;

/// Who this sidecar is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredIdentity {
    pub sidecar: SidecarId,
    pub service: ServiceId,
    pub trust_domain: TrustDomain,
    pub instance_credential: String,
    /// PKCS#8, DER, base64.
    pub instance_key: String,
    pub leaf: Leaf,
    /// PKCS#8, DER, base64.
    pub leaf_key: String,
}

/// What went wrong with the data directory. None passes by itself: someone has to look.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {what} {path}: let the sidecar's user own the data directory")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{dir} is in use by another sidecar: give each a data directory of its own")]
    InUse { dir: PathBuf },
    #[error("{path} is larger than {limit} bytes, which no sidecar writes: move it away and join anew")]
    TooLarge { path: PathBuf, limit: usize },
    #[error("{path} is not what this version wrote: move it away and join anew")]
    Form {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the identity in the data directory cannot be used ({why}): move it away and join anew")]
    Identity { why: String },
}

/// The data directory.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
    /// Held as long as the process runs, and let go by the system when it ends in whatever way.
    _lock: Arc<File>,
}

impl Store {
    /// Makes the directory where it is missing, and takes it away from everyone else.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let failed = |what| move |source| StoreError::Io { what, path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create"))?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed("set the mode of"))?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join("lock"));
        let lock = lock.map_err(failed("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }

    pub fn identity(&self) -> Result<Option<StoredIdentity>, StoreError> {
        self.read("identity.json", SMALL_BYTES_MAX)
    }

    pub fn keep_identity(&self, identity: &StoredIdentity) -> Result<(), StoreError> {
        self.write("identity.json", identity)
    }

    pub fn snapshot(&self) -> Result<Option<SignedSnapshot>, StoreError> {
        self.read("snapshot.json", MESSAGE_BYTES_MAX)
    }

    /// The newest version that was ever in force.
    pub fn seen(&self) -> Result<Option<Mark>, StoreError> {
        self.read("version.json", SMALL_BYTES_MAX)
    }

    /// The snapshot first: between the two writes it is newer than the mark, which [`super::gate`] lets through.
    pub fn keep_snapshot(&self, snapshot: &SignedSnapshot, mark: &Mark) -> Result<(), StoreError> {
        self.write("snapshot.json", snapshot)?;
        self.write("version.json", mark)
    }

    fn read<T: DeserializeOwned>(&self, name: &str, limit: usize) -> Result<Option<T>, StoreError> {
        let path = self.dir.join(name);
        let failed = |source| StoreError::Io { what: "read", path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        let bound = u64::try_from(limit).expect("a usize fits") + 1;
        file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > limit {
            return Err(StoreError::TooLarge { path, limit });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|source| StoreError::Form { path, source })
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let beside = self.dir.join(format!("{name}.new"));
        let bytes = serde_json::to_vec(value).expect("our own files are plain data");
        let written = || -> io::Result<()> {
            // One that a crash left behind may have another mode.
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            // The rename itself lives in the directory.
            File::open(&self.dir)?.sync_all()
        };
        written().map_err(|source| StoreError::Io { what: "write", path, source })
    }
}
