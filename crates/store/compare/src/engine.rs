//! The engines, each as the store would use it: small caches, one durable batch at a time.

use std::path::Path;

pub trait Engine {
    /// Inserts and removes rows; durable when it returns.
    fn write(&mut self, rows: &[(u64, Vec<u8>)], dead: &[u64]);
    /// Reads all rows in order.
    fn scan(&self, each: &mut dyn FnMut(u64, &[u8]));
}

pub fn open(engine: &str, path: &Path) -> Box<dyn Engine> {
    match engine {
        "redb" => Box::new(Redb::open(path)),
        "fjall" => Box::new(Fjall::open(path)),
        "sqlite" => Box::new(Sqlite::open(path)),
        other => panic!("no engine {other}"),
    }
}

const CACHE: usize = 4 << 20;

struct Redb(redb::Database);

const ROWS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("rows");

impl Redb {
    fn open(path: &Path) -> Self {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = builder.create(path.join("store.redb")).unwrap();
        let txn = database.begin_write().unwrap();
        txn.open_table(ROWS).unwrap();
        txn.commit().unwrap();
        Self(database)
    }
}

impl Engine for Redb {
    fn write(&mut self, rows: &[(u64, Vec<u8>)], dead: &[u64]) {
        let txn = self.0.begin_write().unwrap();
        let mut table = txn.open_table(ROWS).unwrap();
        for row in dead {
            table.remove(row).unwrap();
        }
        for (row, value) in rows {
            table.insert(row, &value[..]).unwrap();
        }
        drop(table);
        txn.commit().unwrap();
    }

    fn scan(&self, each: &mut dyn FnMut(u64, &[u8])) {
        use redb::{ReadableDatabase, ReadableTable};
        let table = self.0.begin_read().unwrap().open_table(ROWS).unwrap();
        for entry in table.iter().unwrap() {
            let (row, value) = entry.unwrap();
            each(row.value(), value.value());
        }
    }
}

struct Fjall {
    database: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    fn open(path: &Path) -> Self {
        let database = fjall::Database::builder(path)
            .cache_size(CACHE as u64)
            .max_journaling_size(64 << 20)
            .worker_threads(1)
            .open()
            .unwrap();
        let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(CACHE as u64);
        let rows = database.keyspace("rows", options).unwrap();
        Self { database, rows }
    }
}

impl Engine for Fjall {
    fn write(&mut self, rows: &[(u64, Vec<u8>)], dead: &[u64]) {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for row in dead {
            batch.remove(&self.rows, row.to_be_bytes());
        }
        for (row, value) in rows {
            batch.insert(&self.rows, row.to_be_bytes(), &value[..]);
        }
        batch.commit().unwrap();
    }

    fn scan(&self, each: &mut dyn FnMut(u64, &[u8])) {
        for entry in self.rows.iter() {
            let (key, value) = entry.into_inner().unwrap();
            each(u64::from_be_bytes(key[..].try_into().unwrap()), &value);
        }
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(path: &Path) -> Self {
        let connection = rusqlite::Connection::open(path.join("store.sqlite")).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -4096;
                 CREATE TABLE IF NOT EXISTS rows (row INTEGER PRIMARY KEY, value BLOB NOT NULL);",
            )
            .unwrap();
        Self(connection)
    }
}

impl Engine for Sqlite {
    fn write(&mut self, rows: &[(u64, Vec<u8>)], dead: &[u64]) {
        let txn = self.0.transaction().unwrap();
        {
            let mut delete = txn.prepare_cached("DELETE FROM rows WHERE row = ?").unwrap();
            for row in dead {
                delete.execute([*row as i64]).unwrap();
            }
            let mut insert = txn.prepare_cached("INSERT INTO rows VALUES (?, ?)").unwrap();
            for (row, value) in rows {
                insert.execute(rusqlite::params![*row as i64, value]).unwrap();
            }
        }
        txn.commit().unwrap();
    }

    fn scan(&self, each: &mut dyn FnMut(u64, &[u8])) {
        let mut query = self.0.prepare("SELECT row, value FROM rows ORDER BY row").unwrap();
        let mut rows = query.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            each(row.get::<_, i64>(0).unwrap() as u64, row.get_ref(1).unwrap().as_blob().unwrap());
        }
    }
}
