//! Everything that must outlive the process, in one redb file.
//!
//! Each table maps a text to JSON. A change is on disk when the call returns; redb locks the file, so two control planes
//! cannot share a directory.

use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of thing that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys and certificates of the authority, the epoch, the sequence.
    Meta,
    /// Join tokens and join secrets, by id.
    Credential,
    /// Sidecars that have joined, by id.
    Instance,
    /// Accepted revisions of the policy, by number.
    Revision,
    /// Published endpoints, by sidecar.
    Endpoint,
    /// Ledgers of quota, by service.
    Quota,
    /// Who was given what, by a growing number.
    Audit,
}

impl Kind {
    fn table(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Meta => "meta",
            Self::Credential => "credential",
            Self::Instance => "instance",
            Self::Revision => "revision",
            Self::Endpoint => "endpoint",
            Self::Quota => "quota",
            Self::Audit => "audit",
        })
    }
    const ALL: [Self; 7] = [
        Self::Meta,
        Self::Credential,
        Self::Instance,
        Self::Revision,
        Self::Endpoint,
        Self::Quota,
        Self::Audit,
    ];
}

/// Why the store gave nothing or took nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store {} is in use: another control plane runs with this --data-dir", path.display())]
    InUse { path: PathBuf },
    #[error(
        "the store {} is damaged: put a backup in its place; without one there is a new mesh, with another --data-dir",
        path.display()
    )]
    Damaged { path: PathBuf, source: Box<redb::Error> },
    #[error("opening the store {}", path.display())]
    Open { path: PathBuf, source: Box<redb::Error> },
    #[error("the store")]
    Redb(#[source] Box<redb::Error>),
    #[error("{kind:?} {key:?} in the store is not what this version writes")]
    Form { kind: Kind, key: String, source: serde_json::Error },
}

/// Why a store does not open.
fn unopened(path: PathBuf, source: redb::Error) -> StoreError {
    let of_no_store =
        |error: &std::io::Error| matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof);
    match &source {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::InUse { path },
        redb::Error::Corrupted(_) | redb::Error::RepairAborted => {
            StoreError::Damaged { path, source: Box::new(source) }
        }
        redb::Error::Io(error) if of_no_store(error) => {
            StoreError::Damaged { path, source: Box::new(source) }
        }
        _ => StoreError::Open { path, source: Box::new(source) },
    }
}

fn redb_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Redb(Box::new(error.into()))
}

/// One change of a batch.
pub enum Change {
    Put(Kind, String, Vec<u8>),
    Remove(Kind, String),
}

impl Change {
    pub fn put<T: Serialize>(kind: Kind, key: impl Into<String>, value: &T) -> Self {
        Self::Put(kind, key.into(), serde_json::to_vec(value).expect("our own records are plain data"))
    }
}

pub struct Store(Database);

impl Store {
    /// Opens or makes the file `store.redb` in `dir`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("store.redb");
        let opened = || -> Result<Database, redb::Error> {
            // Private keys lie in it: it is closed to others before there is anything to read.
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            let database = Database::create(&path)?;
            let write = database.begin_write()?;
            for kind in Kind::ALL {
                write.open_table(kind.table())?;
            }
            write.commit()?;
            Ok(database)
        };
        opened().map(Self).map_err(|source| unopened(path.clone(), source))
    }

    pub fn get<T: DeserializeOwned>(&self, kind: Kind, key: &str) -> Result<Option<T>, StoreError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.0.begin_read()?.open_table(kind.table())?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        };
        read().map_err(redb_error)?.map(|value| parse(kind, key, &value)).transpose()
    }

    /// All of a kind, by key.
    pub fn all<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<(String, T)>, StoreError> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = self.0.begin_read()?.open_table(kind.table())?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(rows)
        };
        let rows = read().map_err(redb_error)?;
        rows.into_iter().map(|(key, value)| Ok((key.clone(), parse(kind, &key, &value)?))).collect()
    }

    /// The last of a kind by key; nothing of the others is read.
    pub fn last<T: DeserializeOwned>(&self, kind: Kind) -> Result<Option<(String, T)>, StoreError> {
        let read = || -> Result<Option<(String, Vec<u8>)>, redb::Error> {
            let table = self.0.begin_read()?.open_table(kind.table())?;
            Ok(table.last()?.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())))
        };
        let row = read().map_err(redb_error)?;
        row.map(|(key, value)| Ok((key.clone(), parse(kind, &key, &value)?))).transpose()
    }

    /// Gives back what the file no longer needs: what was removed or replaced is not in it any more.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        while self.0.compact().map_err(redb_error)? {}
        Ok(())
    }

    pub fn put<T: Serialize>(&self, kind: Kind, key: &str, value: &T) -> Result<(), StoreError> {
        self.apply(&[Change::put(kind, key, value)])
    }

    /// All changes or none.
    pub fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.0.begin_write()?;
            for change in changes {
                match change {
                    Change::Put(kind, key, value) => {
                        transaction.open_table(kind.table())?.insert(key.as_str(), value.as_slice())?;
                    }
                    Change::Remove(kind, key) => {
                        transaction.open_table(kind.table())?.remove(key.as_str())?;
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(redb_error)
    }
}

fn parse<T: DeserializeOwned>(kind: Kind, key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|source| StoreError::Form { kind, key: key.to_owned(), source })
}

#[cfg(test)]
mod tests;
