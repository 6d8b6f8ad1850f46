//! temp
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use keepgate_http::*;
use keepgate_runtime::{CallError, Reply, Request};
use keepgate_store::Body;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

struct N;
impl Handler for N {
    fn path(&self) -> &str {
        "/"
    }
    fn plugin(&self) -> &str {
        "native"
    }
    fn call(&self, mut request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            let mut n = 0usize;
            let mut chunks = 0usize;
            let mut max = 0;
            while let Some(c) = request.body.chunk().await {
                let c = c.unwrap();
                n += c.len();
                chunks += 1;
                max = max.max(c.len());
            }
            if n > 0 && std::env::var("SHOW").is_ok() {
                eprintln!("{n} bytes in {chunks} chunks max {max}");
            }
            let body = match request.path.first().map(String::as_str) {
                Some("get") => {
                    let size: usize = request.path[1].parse().unwrap();
                    let chunk = Bytes::from(vec![
                        b'x';
                        std::env::var("CHUNK")
                            .ok()
                            .and_then(|c| c.parse().ok())
                            .unwrap_or(128 * 1024)
                    ]);
                    Body::from_stream(
                        Some(size as u64),
                        futures_util::stream::unfold(size, move |left| {
                            let c = chunk.slice(..left.min(chunk.len()));
                            async move {
                                (left > 0).then(|| {
                                    let n = left - c.len();
                                    (Ok(c), n)
                                })
                            }
                        }),
                    )
                }
                _ => Body::from_bytes("ok"),
            };
            Ok(Reply { status: 200, headers: vec![], body })
        })
    }
}

fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "server" {
        let threads = args[2].parse().unwrap();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let registry = prometheus::Registry::new();
                let metrics = Arc::new(Metrics::new(&registry).unwrap());
                let access = match std::env::var("USERS") {
                    Ok(f) => Access::Methods(vec![Method::Htpasswd(
                        Htpasswd::load(f, Default::default()).unwrap(),
                    )]),
                    _ => Access::Open,
                };
                let site =
                    Site::new([(Arc::new(N) as Arc<dyn Handler>, Arc::new(access))], &metrics)
                        .unwrap();
                let gw = Arc::new(Gateway::new(
                    Arc::new(ArcSwap::from_pointee(site)),
                    metrics,
                    Timeouts::default(),
                ));
                let shutdown = Shutdown::new();
                let plain = Server::bind(ListenerConfig::new("127.0.0.1:7001".parse().unwrap()))
                    .await
                    .unwrap();
                let rcgen::CertifiedKey { cert, signing_key } =
                    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
                std::fs::write("/tmp/m.crt", cert.pem()).unwrap();
                std::fs::write("/tmp/m.key", signing_key.serialize_pem()).unwrap();
                let tls = Tls::load(TlsFiles {
                    certificate: "/tmp/m.crt".into(),
                    key: "/tmp/m.key".into(),
                    minimum: Default::default(),
                })
                .unwrap();
                let secure = Server::bind(ListenerConfig {
                    tls: Some(tls),
                    ..ListenerConfig::new("127.0.0.1:7002".parse().unwrap())
                })
                .await
                .unwrap();
                std::thread::spawn(|| {
                    loop {
                        // cpu printer on demand
                        let l = std::net::TcpListener::bind("127.0.0.1:7003").unwrap();
                        for c in l.incoming() {
                            let mut c = c.unwrap();
                            let rss = std::fs::read_to_string("/proc/self/status")
                                .unwrap()
                                .lines()
                                .find(|l| l.starts_with("VmRSS"))
                                .unwrap()
                                .to_owned();
                            let _ = c.write_all(format!("{} {rss}", cpu()).as_bytes());
                        }
                    }
                });
                tokio::join!(plain.serve(gw.clone(), &shutdown), secure.serve(gw, &shutdown));
            });
        return;
    }
    let server_cpu = || {
        let mut s = String::new();
        std::net::TcpStream::connect("127.0.0.1:7003").unwrap().read_to_string(&mut s).unwrap();
        s.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let conns: usize = args[3].parse().unwrap();
    let count: usize = args[4].parse().unwrap();
    let size: usize = args[5].parse().unwrap();
    let auth =
        std::env::var("AUTH").map(|a| format!("Authorization: Basic {a}\r\n")).unwrap_or_default();
    let c0 = server_cpu();
    let t0 = Instant::now();
    let handles: Vec<_> = (0..conns).map(|_| { let mode = args[2].clone(); let auth = auth.clone(); std::thread::spawn(move || {
        let mut s = std::net::TcpStream::connect("127.0.0.1:7001").unwrap(); s.set_nodelay(true).unwrap();
        let mut buf = vec![0u8; 1 << 20];
        let data = vec![7u8; 1 << 20];
        let mut lat = Vec::new();
        for _ in 0..count {
            let t = Instant::now();
            let (expect, req) = match mode.as_str() {
                "get" => (size, format!("GET /get/{size} HTTP/1.1\r\nHost: x\r\n{auth}Accept: application/vnd.x.restic.rest.v2\r\nUser-Agent: Go-http-client/1.1\r\n\r\n")),
                _ => (2, format!("POST /put HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: {size}\r\n\r\n")),
            };
            s.write_all(req.as_bytes()).unwrap();
            if mode == "put" { let mut left = size; while left > 0 { let n = left.min(data.len()); s.write_all(&data[..n]).unwrap(); left -= n; } }
            let mut got = 0; let mut need = None;
            loop {
                let n = s.read(&mut buf).unwrap(); assert!(n > 0);
                if need.is_none() { let p = buf[..n].windows(4).position(|w| w == b"\r\n\r\n").unwrap(); assert!(buf.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buf[..n])); need = Some(p + 4 + expect); }
                got += n; if got >= need.unwrap() { break; }
            }
            lat.push(t.elapsed().as_nanos() as u64);
        }
        lat }) }).collect();
    let mut lat: Vec<u64> = handles.into_iter().flat_map(|h| h.join().unwrap()).collect();
    lat.sort();
    let t = t0.elapsed().as_secs_f64();
    let c = server_cpu() - c0;
    let n = (conns * count) as f64;
    let bytes = n * size as f64;
    println!(
        "{} x{conns} size {size}: {:.0} req/s, {:.0} MB/s, server cpu {:.2}s: {:.2} us/req, {:.0} MB per cpu-s, median {:.1}us p99 {:.1}us",
        args[2],
        n / t,
        bytes / t / 1e6,
        c,
        c * 1e6 / n,
        bytes / c / 1e6,
        lat[lat.len() / 2] as f64 / 1e3,
        lat[lat.len() * 99 / 100] as f64 / 1e3
    );
}
