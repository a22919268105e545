//! The admin server over real sockets: its routes, its status page, its end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, num::NonZeroU64, pin::Pin, sync::Arc, time::Duration};

use arroyo_node::{
    admin::{About, AdminState, serve},
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{
        Dialect, End, Exit, Mode, Mono, Now, Process, View, Wall, Worker, WorkerSpec, Workers,
    },
    runtime::{metrics::Metrics, ports::Clock},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);
const SECOND: u64 = 1_000_000;

/// Stands still at 100 seconds after boot, on some day.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { mono: Mono(100_000_000_000), wall: Wall(1_700_000_100 * SECOND) }
    }

    fn sleep_until(&self, _: Mono) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

struct Admin {
    addr: SocketAddr,
    view: watch::Sender<Arc<View>>,
    metrics: Arc<Metrics>,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Admin {
    async fn start(view: View) -> Self {
        let (view, receiver) = watch::channel(Arc::new(view));
        let metrics = Arc::new(Metrics::new());
        let about = About {
            version: "9.8.7".to_owned(),
            controller: "http://c:5116".to_owned(),
            facts: vec![("workers contained by".to_owned(), "cgroup".to_owned())],
            notices: vec!["a journal was <set> aside".to_owned()],
        };
        let state = AdminState {
            view: receiver,
            metrics: metrics.clone(),
            about: Arc::new(about),
            clock: Arc::new(Still),
            settings: "node.task-slots = 16  # default\n".into(),
            key: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (shutdown, told) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, state, async move {
            let _ = told.await;
        }));
        Self { addr, view, metrics, shutdown, server }
    }

    async fn get(&self, path: &str) -> Answer {
        let (head, body) = self.get_bytes(path).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: String::from_utf8(body).unwrap() }
    }

    /// The head of the answer, and its body.
    async fn get_bytes(&self, path: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}

fn worker(id: u64, job: &str, end: Option<Exit>) -> Arc<Worker> {
    let started = 1_700_000_000 * SECOND;
    Arc::new(Worker {
        id: WorkerId(id),
        spec: Arc::new(WorkerSpec {
            name: job.to_owned(),
            job: JobId::new(job),
            pipeline: None,
            generation: Generation(7),
            slots: NonZeroU64::new(3).unwrap(),
            dialect: Dialect::V0_15,
            key: None,
        }),
        admitted_at: Wall(started),
        process: Some(Process { pid: 4242, start_time: 1 }),
        stop: None,
        abandoned_at: None,
        end: end.map(|exit| End { exit, at: Wall(started + SECOND), sequence: id }),
        reported_at: None,
    })
}

fn healthy() -> View {
    View {
        machine: MachineId::new("machine-1"),
        task_slots: 16,
        free_slots: 13,
        mode: Mode::Serving,
        registered: true,
        last_contact: Some(Mono(98_000_000_000)),
        workers: Workers::from_iter([
            worker(12, "ended", Some(Exit::Signal(9))),
            worker(u64::MAX, "<script>alert(1)</script>", None),
        ]),
        live_workers: 1,
        abandoned_workers: 0,
        reports_owed: 1,
        journal_error: None,
        program_error: None,
        started_at: Wall(1_700_000_000 * SECOND),
    }
}

#[tokio::test]
async fn stocks_routes_answer_as_stock_does() {
    let admin = Admin::start(healthy()).await;
    assert_eq!(admin.get("/status").await.body, "ok");
    assert_eq!(admin.get("/name").await.body, "arroyo-node\n");
    let details = admin.get("/details").await.json();
    assert_eq!(details["service"], "arroyo-node");
    assert_eq!(details["version"], "9.8.7");
    assert_eq!(details["facts"]["workers contained by"], "cgroup");

    admin.metrics.observe_view(&healthy());
    let metrics = admin.get("/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.has("\narroyo_node_running_workers 1\n"), "{}", metrics.body);
    assert_eq!(admin.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn readiness_gives_its_reasons() {
    let admin = Admin::start(healthy()).await;
    let ready = admin.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({ "ready": true, "reasons": [] })));

    let mut unready = healthy();
    unready.registered = false;
    unready.journal_error = Some("disk full".into());
    unready.program_error = Some("/bin/worker: No such file".into());
    unready.mode = Mode::Draining;
    admin.view.send(Arc::new(unready)).unwrap();
    let unready = admin.get("/readyz").await;
    assert_eq!(unready.status, 503);
    let json = unready.json();
    let codes: Vec<_> = json["reasons"].as_array().unwrap().iter().map(|r| &r["code"]).collect();
    assert_eq!(codes, ["program", "not_registered", "journal", "draining"]);
    for text in ["disk full", "/bin/worker: No such file"] {
        assert!(unready.has(text), "{}", unready.body);
    }
    assert_eq!(admin.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn any_one_reason_is_enough_not_to_be_ready() {
    type Change = fn(&mut View);
    let changes: [(Change, &str); 5] = [
        (|view| view.program_error = Some("x".into()), "program"),
        (|view| view.registered = false, "not_registered"),
        (|view| view.journal_error = Some("x".into()), "journal"),
        (|view| view.mode = Mode::Draining, "draining"),
        (|view| view.mode = Mode::ShuttingDown, "shutting_down"),
    ];
    for (change, code) in changes {
        let mut view = healthy();
        change(&mut view);
        let answer = Admin::start(view).await.get("/readyz").await;
        assert_eq!(answer.status, 503, "{code}");
        assert_eq!(answer.json()["reasons"][0]["code"], code);
    }
}

#[tokio::test]
async fn the_view_is_there_as_json() {
    let admin = Admin::start(healthy()).await;
    let view = admin.get("/api/view").await;
    assert!(view.head.contains("content-type: application/json"), "{}", view.head);
    let view = view.json();
    assert_eq!(view["machine_id"], "machine-1");
    assert_eq!(view["free_slots"], 13);
    assert_eq!(view["last_contact_seconds"], 2.0);
    assert_eq!(view["started_at"], "2023-11-14T22:13:20Z");
    assert_eq!(view["workers"][0]["worker_id"], u64::MAX.to_string());
    assert_eq!(view["workers"][0]["exit"], Value::Null);
    assert_eq!(view["workers"][1]["state"], "exited");
    assert_eq!(view["workers"][1]["exit"]["name"], "SIGKILL");
}

#[tokio::test]
async fn the_page_shows_workers_slots_and_how_things_stand() {
    let admin = Admin::start(healthy()).await;
    let page = admin.get("/").await;
    assert!(page.head.contains("content-type: text/html"), "{}", page.head);
    for text in [
        "machine-1",
        "9.8.7",
        "serving",
        "3 of 16 in use",
        ">registered<",
        "last answer 2s ago",
        "up 1m 40s",
        "signal 9 (SIGKILL)",
        &u64::MAX.to_string(),
    ] {
        assert!(page.has(text), "{text}: {}", page.body);
    }

    let mut other = healthy();
    other.workers = Workers::default();
    other.registered = false;
    other.journal_error = Some("disk full".into());
    admin.view.send(Arc::new(other)).unwrap();
    let page = admin.get("/").await;
    assert!(page.has("No worker is alive") && page.has("disk full") && page.has("not registered"));
}

#[tokio::test]
async fn who_is_abandoned_is_told() {
    let admin = Admin::start(healthy()).await;
    assert!(!admin.get("/").await.has("bandoned"), "nobody is");
    let view = admin.get("/api/view").await.json();
    assert_eq!((&view["abandoned_workers"], &view["program_error"]), (&json!(0), &Value::Null));

    let mut other = healthy();
    let abandoned = |worker: &Arc<Worker>| {
        let abandoned_at = Some(Mono(1));
        Arc::new(Worker { abandoned_at, ..Worker::clone(worker) })
    };
    // One of the two has ended: that one is abandoned no more.
    other.workers = other.workers.iter().map(abandoned).collect();
    other.abandoned_workers = 1;
    other.program_error = Some("/bin/worker: No such file".into());
    admin.view.send(Arc::new(other)).unwrap();
    let page = admin.get("/").await;
    for text in ["running, abandoned", ">Abandoned<", "/bin/worker: No such file"] {
        assert!(page.has(text), "{text}: {}", page.body);
    }
    assert!(!page.has("exited, abandoned"), "{}", page.body);
    let view = admin.get("/api/view").await.json();
    assert_eq!(view["abandoned_workers"], 1);
    assert_eq!(view["program_error"], "/bin/worker: No such file");
    let workers = &view["workers"];
    assert_eq!((&workers[0]["abandoned"], &workers[1]["abandoned"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn what_comes_from_outside_cannot_become_markup() {
    let admin = Admin::start(healthy()).await;
    let page = admin.get("/").await;
    assert!(!page.has("<script>alert"), "{}", page.body);
    assert!(page.has("&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", page.body);
    assert!(page.has("a journal was &lt;set&gt; aside"), "{}", page.body);
}

#[tokio::test]
async fn only_the_pages_own_script_may_run() {
    let admin = Admin::start(healthy()).await;
    let (first, second) = (admin.get("/").await, admin.get("/").await);
    let nonce = |page: &Answer| {
        let after = page.head.split("script-src 'nonce-").nth(1).unwrap();
        after.split('\'').next().unwrap().to_owned()
    };
    assert_ne!(nonce(&first), nonce(&second));
    assert!(first.has(&format!("<script nonce=\"{}\">", nonce(&first))), "{}", first.body);
    for outside in ["src=\"http", "href=\"http", "url(", " style=", " onclick=", "innerHTML"] {
        assert!(!first.has(outside), "{outside}");
    }
}

#[tokio::test]
async fn a_page_of_many_workers_stays_short() {
    let mut view = healthy();
    view.workers = (0..500).map(|id| worker(id, "j", Some(Exit::Code(0)))).collect();
    let admin = Admin::start(view).await;
    let page = admin.get("/").await;
    assert_eq!(page.body.matches("<tr>").count(), 1 + 50);
    assert!(page.has("450 more"), "{}", page.body);
    assert_eq!(admin.get("/api/view").await.json()["workers"].as_array().unwrap().len(), 500);
}

#[tokio::test]
async fn an_open_connection_does_not_keep_the_server() {
    let admin = Admin::start(healthy()).await;
    let mut idle = TcpStream::connect(admin.addr).await.unwrap();
    // Half a request: the server waits for the rest, which never comes.
    idle.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    admin.get("/status").await;
    admin.shutdown.send(()).unwrap();
    timeout(PATIENCE, admin.server).await.unwrap().unwrap().unwrap();
}

/// Reads what Prometheus calls delimited: each message after its length.
#[tokio::test]
async fn metrics_are_to_be_had_as_protobuf() {
    #[derive(prost::Message)]
    struct MetricFamily {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        help: String,
    }

    let admin = Admin::start(healthy()).await;
    let (head, body) = admin.get_bytes("/metrics.pb").await;
    assert!(head.contains("proto=io.prometheus.client.MetricFamily; encoding=delimited"), "{head}");
    let (mut rest, mut names) = (body.as_slice(), Vec::new());
    while !rest.is_empty() {
        let family: MetricFamily = prost::Message::decode_length_delimited(&mut rest).unwrap();
        assert!(!family.help.is_empty(), "{}", family.name);
        names.push(family.name);
    }
    let text = admin.get("/metrics").await.body;
    let in_text = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert_eq!(names, in_text.collect::<Vec<_>>());
    assert!(names.iter().any(|name| name == "arroyo_node_running_workers"), "{names:?}");
}
