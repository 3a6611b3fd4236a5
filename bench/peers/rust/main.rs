// bench/peers/rust - the Rust peer: every row of a table as a document into Elasticsearch.
//
//   rust-peer HOST:PORT USER PASSWORD KEYSPACE.TABLE URL INDEX WORKERS DOCS_PER_BULK
//
// The scylla driver gives each cell as the bytes that came (ColumnIterator), and they are written as JSON straight into the
// bulk body: nothing is allocated per value. One page makes one body; the next page is asked for before the body is made.
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::{connect::HttpConnector, Client};
use hyper_util::rt::TokioExecutor;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

type Res<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Job {
    session: Session,
    select: PreparedStatement,
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
    key: String,
    ranges: Vec<(i64, i64)>,
    next_range: AtomicUsize,
    documents: AtomicU64,
}

struct Page {
    rows: QueryRowsResult,
    version: u64,
    more: Option<PagingState>,
}

fn main() -> Res<()> {
    let cores = std::thread::available_parallelism()?.get();
    tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?.block_on(run())
}

async fn run() -> Res<()> {
    let a: Vec<String> = std::env::args().collect();
    if a.len() != 9 {
        return Err("usage: rust-peer HOST:PORT USER PASSWORD KEYSPACE.TABLE URL INDEX WORKERS DOCS_PER_BULK".into());
    }
    let (keyspace, table) = a[4].split_once('.').ok_or("KEYSPACE.TABLE")?;
    let session = SessionBuilder::new().known_node(&a[1]).user(&a[2], &a[3]).build().await?;
    let state = session.get_cluster_state();
    let schema = state.get_keyspace(keyspace).and_then(|k| k.tables.get(table)).ok_or("no such table")?;
    let key = schema.partition_key.join(", ");
    let id = schema.partition_key.first().ok_or("no partition key")?.clone();
    let text = format!("SELECT * FROM {keyspace}.{table} WHERE token({key}) > ? AND token({key}) <= ?");
    let mut select = session.prepare(text).await?;
    select.set_page_size(a[8].parse()?);
    select.set_use_cached_result_metadata(true);
    let ranges = ranges(&session).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let job = Arc::new(Job {
        session,
        select,
        http: Client::builder(TokioExecutor::new()).build(connector),
        url: format!("{}/{}/_bulk?filter_path=errors,items.*.status", a[5].trim_end_matches('/'), a[6]),
        key: id,
        ranges,
        next_range: AtomicUsize::new(0),
        documents: AtomicU64::new(0),
    });
    let workers: Vec<_> = (0..a[7].parse::<usize>()?).map(|_| tokio::spawn(work(job.clone()))).collect();
    for w in workers {
        w.await??;
    }
    eprintln!("documents {}", job.documents.load(Relaxed));
    Ok(())
}

/// The ranges between the ring's tokens, each in four parts.
async fn ranges(session: &Session) -> Res<Vec<(i64, i64)>> {
    let mut ends = vec![i64::MIN, i64::MAX];
    for text in ["SELECT tokens FROM system.local", "SELECT tokens FROM system.peers"] {
        let rows = session.query_unpaged(text, ()).await?.into_rows_result()?;
        for row in rows.rows::<(Option<HashSet<String>>,)>()? {
            for token in row?.0.unwrap_or_default() {
                ends.push(token.parse()?);
            }
        }
    }
    ends.sort_unstable();
    ends.dedup();
    let mut out = Vec::new();
    for w in ends.windows(2) {
        let step = (w[1].wrapping_sub(w[0]) as u64) / 4;
        let mut at = w[0];
        for part in 1..=4 {
            let end = if part == 4 { w[1] } else { at.wrapping_add(step as i64) };
            out.push((at, end));
            at = end;
        }
    }
    Ok(out)
}

async fn read(job: Arc<Job>, range: (i64, i64), state: PagingState) -> Res<Page> {
    let version = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64;
    let (result, response): (_, PagingStateResponse) =
        job.session.execute_single_page(&job.select, range, state).await?;
    let more = match response.into_paging_control_flow() {
        ControlFlow::Continue(state) => Some(state),
        ControlFlow::Break(()) => None,
    };
    Ok(Page { rows: result.into_rows_result()?, version, more })
}

async fn work(job: Arc<Job>) -> Res<()> {
    let mut body_bytes = 64 << 10;
    loop {
        let n = job.next_range.fetch_add(1, Relaxed);
        let Some(&range) = job.ranges.get(n) else { return Ok(()) };
        let mut asked = Some(tokio::spawn(read(job.clone(), range, PagingState::start())));
        while let Some(page) = asked.take() {
            let mut page = page.await??;
            asked = page.more.take().map(|state| tokio::spawn(read(job.clone(), range, state)));
            let mut body = Vec::with_capacity(body_bytes);
            let documents = write_page(&page, &job.key, &mut body)?;
            body_bytes = body_bytes.max(body.len() + body.len() / 8);
            if documents > 0 {
                send(&job, body, documents).await?;
            }
        }
    }
}

async fn send(job: &Job, body: Vec<u8>, documents: usize) -> Res<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(&job.url)
        .header("Content-Type", "application/x-ndjson")
        .body(Full::new(Bytes::from(body)))?;
    let answer = job.http.request(request).await?;
    let status = answer.status();
    let text = answer.into_body().collect().await?.to_bytes();
    let head = &text[..text.len().min(300)];
    if !status.is_success() || !head.windows(14).any(|w| w == b"\"errors\":false") {
        return Err(format!("_bulk: {status}: {}", String::from_utf8_lossy(head)).into());
    }
    let items = text.windows(9).filter(|w| w == b"\"status\":").count();
    if items != documents {
        return Err(format!("_bulk: {items} items for {documents} documents").into());
    }
    job.documents.fetch_add(documents as u64, Relaxed);
    Ok(())
}

// --- rows to JSON ------------------------------------------------------------------------------------

fn write_page(page: &Page, key: &str, out: &mut Vec<u8>) -> Res<usize> {
    let specs = page.rows.column_specs();
    let names: Vec<String> = specs.iter().map(|s| format!("\"{}\":", s.name())).collect();
    let key_at = specs.iter().position(|s| s.name() == key).ok_or("no key among the columns")?;
    let mut number = itoa::Buffer::new();
    let version = number.format(page.version);
    let mut documents = 0;
    for row in page.rows.rows::<ColumnIterator>()? {
        out.extend_from_slice(b"{\"index\":{\"_id\":");
        let cells = row?;
        let key = cells.clone().nth(key_at).ok_or("row without its key")??;
        write_id(key.spec.typ(), key.slice.ok_or("null key")?.as_slice(), out)?;
        out.extend_from_slice(b",\"version\":");
        out.extend_from_slice(version.as_bytes());
        out.extend_from_slice(b",\"version_type\":\"external_gte\"}}\n{");
        let first = out.len();
        for (i, cell) in cells.enumerate() {
            let cell = cell?;
            if let Some(bytes) = cell.slice {
                if out.len() > first {
                    out.push(b',');
                }
                out.extend_from_slice(names[i].as_bytes());
                write_value(cell.spec.typ(), bytes.as_slice(), out)?;
            }
        }
        out.extend_from_slice(b"}\n");
        documents += 1;
    }
    Ok(documents)
}

/// The key's text: a number gets quotes.
fn write_id(typ: &ColumnType, cell: &[u8], out: &mut Vec<u8>) -> Res<()> {
    let start = out.len();
    write_value(typ, cell, out)?;
    if out[start] != b'"' {
        out.insert(start, b'"');
        out.push(b'"');
    }
    Ok(())
}

fn write_value(typ: &ColumnType, cell: &[u8], out: &mut Vec<u8>) -> Res<()> {
    match typ {
        ColumnType::Native(native) => write_native(native, cell, out),
        ColumnType::Collection { typ: CollectionType::List(of) | CollectionType::Set(of), .. } => {
            let mut rest = cell;
            let n = take_int(&mut rest)?;
            out.push(b'[');
            for i in 0..n {
                if i > 0 {
                    out.push(b',');
                }
                write_value(of, take_cell(&mut rest)?, out)?;
            }
            out.push(b']');
            Ok(())
        }
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => {
            let mut rest = cell;
            let n = take_int(&mut rest)?;
            out.push(b'{');
            for i in 0..n {
                if i > 0 {
                    out.push(b',');
                }
                write_id(key, take_cell(&mut rest)?, out)?;
                out.push(b':');
                write_value(value, take_cell(&mut rest)?, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        other => Err(format!("no writer for {other:?}").into()),
    }
}

fn take_int(rest: &mut &[u8]) -> Res<i32> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or("cell cut short")?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

fn take_cell<'a>(rest: &mut &'a [u8]) -> Res<&'a [u8]> {
    let n = take_int(rest)? as usize;
    let (cell, tail) = rest.split_at_checked(n).ok_or("cell cut short")?;
    *rest = tail;
    Ok(cell)
}

fn write_native(native: &NativeType, cell: &[u8], out: &mut Vec<u8>) -> Res<()> {
    let mut number = itoa::Buffer::new();
    match native {
        NativeType::Text | NativeType::Ascii => write_string(cell, out),
        NativeType::Boolean => out.extend_from_slice(if cell[0] != 0 { b"true" } else { b"false" }),
        NativeType::TinyInt => out.extend_from_slice(number.format(cell[0] as i8).as_bytes()),
        NativeType::SmallInt => out.extend_from_slice(number.format(i16::from_be_bytes(cell.try_into()?)).as_bytes()),
        NativeType::Int => out.extend_from_slice(number.format(i32::from_be_bytes(cell.try_into()?)).as_bytes()),
        NativeType::BigInt | NativeType::Counter => {
            out.extend_from_slice(number.format(i64::from_be_bytes(cell.try_into()?)).as_bytes())
        }
        NativeType::Double => write_float(f64::from_be_bytes(cell.try_into()?), out),
        NativeType::Float => write_float(f32::from_be_bytes(cell.try_into()?), out),
        NativeType::Uuid | NativeType::Timeuuid => write_uuid(cell, out),
        NativeType::Timestamp => write_timestamp(i64::from_be_bytes(cell.try_into()?), out),
        other => return Err(format!("no writer for {other:?}").into()),
    }
    Ok(())
}

trait Finite: ryu::Float {
    fn finite(self) -> bool;
}
impl Finite for f64 {
    fn finite(self) -> bool {
        self.is_finite()
    }
}
impl Finite for f32 {
    fn finite(self) -> bool {
        self.is_finite()
    }
}

fn write_float<F: Finite>(v: F, out: &mut Vec<u8>) {
    if v.finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(v).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// 1: has to be escaped.
static ESCAPED: [bool; 256] = {
    let mut t = [false; 256];
    let mut i = 0;
    while i < 32 {
        t[i] = true;
        i += 1;
    }
    t[b'"' as usize] = true;
    t[b'\\' as usize] = true;
    t
};

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut from = 0;
    for (i, &c) in text.iter().enumerate() {
        if ESCAPED[c as usize] {
            out.extend_from_slice(&text[from..i]);
            from = i + 1;
            match c {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                _ => {
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[HEX[(c >> 4) as usize], HEX[(c & 15) as usize]]);
                }
            }
        }
    }
    out.extend_from_slice(&text[from..]);
    out.push(b'"');
}

fn write_uuid(cell: &[u8], out: &mut Vec<u8>) {
    let mut text = [b'-'; 38];
    let mut at = 1;
    for (i, &b) in cell.iter().enumerate().take(16) {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[(b >> 4) as usize];
        text[at + 1] = HEX[(b & 15) as usize];
        at += 2;
    }
    text[0] = b'"';
    text[37] = b'"';
    out.extend_from_slice(&text);
}

fn put(text: &mut [u8], mut v: u64) {
    for c in text.iter_mut().rev() {
        *c = b'0' + (v % 10) as u8;
        v /= 10;
    }
}

/// ISO 8601, UTC, milliseconds; years 0 to 9999.
fn write_timestamp(ms: i64, out: &mut Vec<u8>) {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) as u64);
    let z = days + 719_468; // days since 0000-03-01
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
    put(&mut text[1..5], year as u64);
    put(&mut text[6..8], month as u64);
    put(&mut text[9..11], day as u64);
    put(&mut text[12..14], rest / 3_600_000);
    put(&mut text[15..17], rest / 60_000 % 60);
    put(&mut text[18..20], rest / 1000 % 60);
    put(&mut text[21..24], rest % 1000);
    out.extend_from_slice(&text);
}
