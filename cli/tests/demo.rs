//! `outrider demo` as a user runs it: what it shows, and that nothing is left of it, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");
/// Longer than a start, and an end, on a loaded machine without optimisation.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at something that has no event to wait for.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// What is bound on 127.0.0.1, and usual ports of the pods.
const MOVED: [u16; 4] = [14_000, 14_001, 14_010, 14_100];
const POD_PORTS: [u16; 7] = [14_000, 14_001, 14_006, 14_090, 15_001, 8_080, 50_051];

/// A demo of its own addresses, ports and directory.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    directory: TempDir,
    place: Place,
}

/// Addresses that no other test of this machine uses: the ports lie below those that the system gives away.
#[derive(Clone, Copy)]
struct Place {
    net: u8,
    first_port: u16,
}

/// Held at the network of a place; the demo binds nothing there.
const LOCK: (u8, u8, u16) = (255, 254, 21_399);
/// Places: one for each network from 127.40 on.
const PLACES: u32 = 160;

impl Place {
    /// The first place that nobody holds, beginning at one that other processes hardly begin at.
    fn claim() -> Self {
        let start = std::process::id().wrapping_mul(31);
        for index in 0..PLACES {
            let slot = u8::try_from(start.wrapping_add(index) % PLACES).expect("fewer than 256");
            let net = 40 + slot;
            let (third, fourth, port) = LOCK;
            if let Ok(lock) = TcpListener::bind((Ipv4Addr::new(127, net, third, fourth), port)) {
                // Closed by the end of the process.
                std::mem::forget(lock);
                return Self { net, first_port: 20_000 + u16::from(slot) * 8 };
            }
        }
        panic!("all {PLACES} places are held by others");
    }

    fn moved(self, usual: u16) -> u16 {
        let position = MOVED.iter().position(|port| *port == usual).expect("one of the moved");
        self.first_port + u16::try_from(position).expect("one of four")
    }

    fn arguments(self) -> Vec<String> {
        let mut arguments = vec![format!("--pods=127.{}", self.net)];
        arguments.extend(MOVED.iter().map(|usual| format!("--move-port={usual}={}", self.moved(*usual))));
        arguments
    }

    /// Everything that a demo at this place binds.
    fn addresses(self) -> Vec<SocketAddr> {
        let local = |third, fourth| IpAddr::V4(Ipv4Addr::new(127, self.net, third, fourth));
        let pods = [local(1, 1), local(2, 1), local(2, 2), local(3, 1), local(3, 2), local(3, 3)];
        let mut addresses: Vec<SocketAddr> = MOVED
            .iter()
            .map(|usual| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.moved(*usual)))
            .collect();
        addresses.push(SocketAddr::new(local(0, 1), 14_101));
        for pod in pods {
            // The moved ports move in every pod.
            addresses.extend(POD_PORTS.iter().map(|usual| {
                let port = if MOVED.contains(usual) { self.moved(*usual) } else { *usual };
                SocketAddr::new(pod, port)
            }));
        }
        addresses
    }

    /// Every process of a demo at this place names its network in its arguments.
    fn processes(self) -> Vec<(u32, String)> {
        let marks = [format!("127.{}.", self.net), format!("127.{}", self.net)];
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc is readable").flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(bytes) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
            if line.contains("outrider") && marks.iter().any(|mark| line.contains(mark)) {
                found.push((id, line));
            }
        }
        found
    }
}

impl Demo {
    fn start(extra: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), Place::claim(), extra)
    }

    fn start_in(directory: TempDir, place: Place, extra: &[&str]) -> Self {
        let mut child = Command::new(OUTRIDER)
            .arg("demo")
            .args(place.arguments())
            .args(extra)
            // Meant for a sidecar of the user's own: the demo's must not take it.
            .env("OUTRIDER_SERVICE", "shop/nobody")
            .env("OUTRIDER_INBOUND", "127.0.0.1:1")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = child.stderr.take().expect("piped");
        Self { child, stdout, stderr, directory, place }
    }

    /// The next line of `-o json`; what went wrong if there is none.
    fn line(&mut self) -> Value {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line).expect("the pipe is readable");
        assert!(read > 0, "the demo has ended:\n{}", self.told());
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn told(&mut self) -> String {
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).expect("UTF-8");
        text
    }

    /// Another command in the demo's directory.
    fn command(&self, arguments: &[&str]) -> Output {
        Command::new(OUTRIDER)
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .expect("the binary runs")
    }

    fn signal(&self, signal: &str) {
        send(self.child.id(), signal);
    }

    fn ended(&mut self) -> ExitStatus {
        let mut exit = None;
        until("the demo ends", || {
            exit = self.child.try_wait().expect("it is our child");
            exit.is_some()
        });
        exit.expect("it has ended")
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.place.processes(), [], "processes");
        assert_eq!(taken(self.place), [], "ports");
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join(".outrider")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // A test that failed in between: its children go with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(id: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &id.to_string()]).status().expect("kill exists");
    assert!(sent.success(), "SIG{signal} to {id}");
}

#[allow(clippy::disallowed_methods, reason = "a test's own thread may wait")]
fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < end, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(LOOK_PERIOD);
    }
}

fn taken(place: Place) -> Vec<SocketAddr> {
    place.addresses().into_iter().filter(|address| TcpListener::bind(address).is_err()).collect()
}

fn service<'a>(line: &'a Value, name: &str) -> &'a Value {
    let services = line["services"].as_array().expect("a list");
    services.iter().find(|service| service["name"] == name).unwrap_or_else(|| panic!("{name} in {line}"))
}

fn number(service: &Value, key: &str) -> f64 {
    service[key].as_f64().unwrap_or_else(|| panic!("{key} in {service}"))
}

fn peers(service: &Value) -> Vec<&str> {
    service["peers"].as_array().expect("a list").iter().map(|peer| peer.as_str().expect("text")).collect()
}

/// Three lines of a command that goes on until it is ended.
fn watched(demo: &Demo, arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(OUTRIDER);
    command.args(arguments).current_dir(demo.directory.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let lines = lines.take(3).map(|line| serde_json::from_str(&line.expect("UTF-8")).expect("JSON"));
    let lines: Vec<Value> = lines.collect();
    // What it wrote to is closed by now: it may have ended by itself.
    let _ = child.kill();
    child.wait().expect("it is our child");
    assert_eq!(lines.len(), 3, "{arguments:?}");
    lines
}

#[test]
fn the_demo_shows_a_mesh_that_works_and_ends_by_itself() {
    let mut demo = Demo::start(&["--duration", "8s", "--rate", "20", "-o", "json"]);
    // Eight, or fewer where the machine is behind.
    let mut out = String::new();
    demo.stdout.read_to_string(&mut out).expect("the pipe is readable");
    assert!(demo.ended().success());
    let told = demo.told();
    let lines =
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    let lines: Vec<Value> = lines.collect();
    assert!(lines.len() <= 9, "{out}");
    assert!(told.contains("Control plane ready in "), "{told}");
    assert!(told.contains("Load: "), "{told}");

    let last = lines.last().unwrap_or_else(|| panic!("not a line: {told}"));
    assert_eq!(last["services"].as_array().expect("a list").len(), 3);
    let [frontend, orders, payments] = ["frontend", "orders", "payments"].map(|name| service(last, name));
    // One replica of payments fails on purpose, and two of five requests need payments.
    for service in [frontend, orders, payments] {
        assert!(number(service, "success") > 0.8, "{service}");
        let (p50, p95, p99) =
            (number(service, "p50_ms"), number(service, "p95_ms"), number(service, "p99_ms"));
        assert!(0.0 < p50 && p50 <= p95 && p95 <= p99, "{service}");
        assert!(number(service, "cert_remaining_s") > 23.0 * 3_600.0, "{service}");
    }
    // How much of what was asked for the machine manages is its own affair; two of five orders are paid for.
    let [of_frontend, of_orders, of_payments] = [frontend, orders, payments].map(|of| number(of, "rps"));
    assert!(of_frontend > 0.0 && of_payments > 0.0 && of_payments < of_orders, "{last}");
    assert_eq!(peers(frontend), ["external"]);
    assert_eq!(peers(orders), ["spiffe://shop.local/ns/shop/sa/frontend"]);
    assert_eq!(peers(payments), ["spiffe://shop.local/ns/shop/sa/orders"]);
    assert!((number(orders, "mtls") - 1.0).abs() < f64::EPSILON, "{orders}");
    assert!((number(payments, "mtls") - 1.0).abs() < f64::EPSILON, "{payments}");
    assert_eq!((&orders["endpoints"], &payments["endpoints"]), (&2.into(), &3.into()));

    demo.assert_nothing_is_left();
    assert!(!demo.data().exists(), "its directory");
}

#[test]
fn the_commands_that_it_suggests_work_and_ctrl_c_leaves_nothing() {
    let mut demo = Demo::start(&["--rate", "5", "-o", "json"]);
    // Reports have arrived. A line is a second.
    let seconds = usize::try_from(PATIENCE.as_secs()).expect("a small number");
    let reported = (0..seconds).any(|_| !service(&demo.line(), "payments")["success"].is_null());
    assert!(reported, "no request to payments is shown within {seconds} s");
    let api = format!("--api=http://127.0.0.1:{}", demo.place.moved(14_100));
    let via = format!("--via=127.0.0.1:{}", demo.place.moved(14_001));
    for (arguments, expected) in [
        (vec!["stat", &api], "shop/payments"),
        (vec!["upstreams", &api], "inbound:50051"),
        (vec!["quota", &api], "spiffe://shop.local/ns/shop/sa/orders"),
        (vec!["sidecars", &api], "connected"),
        (vec!["get", "http://orders/api/orders", &via], "app on port 8080"),
        (vec!["token", "create", "--service=shop/orders", &api], "outrider1."),
        (vec!["join-secret", "create", "--service=shop/orders", &api], "outrider1."),
        (vec!["stat", "-o=json", &api], r#"{"window_s":10.0,"#),
        (vec!["upstreams", "-o=json", "--service=shop/orders", &api], r#""name":"shop/payments""#),
        (vec!["events", "-o=json", &api], r#"{"events":["#),
        (vec!["quota", "-o=json", "--service=shop/payments", &api], r#"{"rows":[{"service":"shop/payments""#),
        (vec!["get", "http://orders/api/orders", "-o=json", &via], r#""status":200"#),
    ] {
        let mut output = demo.command(&arguments);
        // One request may be too late for its route where the machine is behind; another one then is not.
        until("the command succeeds", || {
            let late = arguments[0] == "get" && String::from_utf8_lossy(&output.stderr).contains("504");
            if late {
                output = demo.command(&arguments);
            }
            !late
        });
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{error}");
        assert!(out.contains(expected), "{arguments:?}: {out}");
        assert!(!out.contains('\x1b'), "no escape codes in a pipe: {out}");
    }
    assert!(
        demo.data().join("demo/control-plane/read-token").exists(),
        "what opens the control plane's page"
    );
    for command in ["stat", "upstreams", "quota"] {
        let watched = watched(&demo, &[command, "--watch", "-o=json", &api]);
        assert!(watched.iter().all(Value::is_object), "{command}: {watched:?}");
    }
    demo.signal("INT");
    assert!(demo.ended().success(), "{}", demo.told());
    demo.assert_nothing_is_left();
    assert!(!demo.data().exists(), "its directory");
}

#[test]
fn without_a_terminal_it_prints_a_plain_line_each_second() {
    let mut demo = Demo::start(&["--duration", "2s"]);
    let mut out = String::new();
    demo.stdout.read_to_string(&mut out).expect("the pipe is readable");
    assert!(demo.ended().success());
    let lines: Vec<&str> = out.lines().collect();
    let second =
        |line: &&str| line.split_once(" s ").and_then(|(second, _)| second.trim().parse::<u32>().ok());
    let seconds: Vec<u32> =
        lines.iter().map(|line| second(line).unwrap_or_else(|| panic!("{line}"))).collect();
    assert!(seconds.windows(2).all(|pair| pair[0] <= pair[1]), "{out}");
    assert!(seconds.first() >= Some(&1) && seconds.last() >= Some(&2), "{out}");
    assert!(lines.iter().all(|line| line.contains("| payments ") && !line.contains('\x1b')), "{out}");
}

#[test]
fn a_sigterm_while_it_starts_leaves_nothing_either() {
    let mut demo = Demo::start(&["-o", "json"]);
    let place = demo.place;
    until("its first process runs", || place.processes().len() > 1);
    demo.signal("TERM");
    assert!(demo.ended().success(), "{}", demo.told());
    demo.assert_nothing_is_left();
    assert!(!demo.data().exists(), "its directory");
}

#[test]
fn a_kill_leaves_no_process_and_no_port() {
    let mut demo = Demo::start(&["-o", "json"]);
    demo.line();
    // 13 children, and itself.
    assert_eq!(demo.place.processes().len(), 14, "{:#?}", demo.place.processes());
    demo.signal("KILL");
    assert!(!demo.ended().success());
    let place = demo.place;
    until("the kernel ends its children", || place.processes().is_empty());
    // A process has no command line any more before the kernel has closed its sockets.
    until("the kernel closes their ports", || taken(place).is_empty());
}

#[test]
fn a_part_that_dies_is_named_and_kept_data_is_there_to_look_at() {
    let mut demo = Demo::start(&["-o", "json"]);
    demo.line();
    let processes = demo.place.processes();
    let (victim, _) = processes
        .iter()
        .find(|(_, line)| line.contains(" sidecar ") && line.contains("/payments-3 "))
        .expect("it runs");
    send(*victim, "KILL");
    let exit = demo.ended();
    let told = demo.told();
    assert_eq!(exit.code(), Some(1), "{told}");
    assert!(told.contains("payments-3-sidecar ended by itself (signal: 9 (SIGKILL))"), "{told}");
    demo.assert_nothing_is_left();
    assert!(Path::new(&demo.data()).join("demo/logs/payments-3-sidecar.log").exists());
}

#[test]
fn what_is_kept_is_gone_on_from_by_the_next_run() {
    let place = Place::claim();
    let keep = ["--duration", "1s", "--rate", "0", "--keep-data", "-o", "json"];
    let mut first = Demo::start_in(tempfile::tempdir().expect("a directory"), place, &keep);
    let exit = first.ended();
    let told = first.told();
    assert!(exit.success() && told.contains("Kept "), "{told}");
    first.assert_nothing_is_left();
    let kept = |demo: &Demo| {
        let at = demo.data().join("demo");
        let token = std::fs::read_to_string(at.join("control-plane/operator-token")).expect("it was kept");
        let identity = std::fs::read(at.join("sidecars/orders-2/identity.json")).expect("it was kept");
        let identity: Value = serde_json::from_slice(&identity).expect("JSON");
        (token, identity["sidecar"].clone())
    };
    let before = kept(&first);
    let directory = std::mem::replace(&mut first.directory, tempfile::tempdir().expect("a directory"));
    let mut second = Demo::start_in(directory, place, &keep);
    assert!(second.ended().success(), "{}", second.told());
    assert_eq!(kept(&second), before);
    second.assert_nothing_is_left();
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_starts() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new(OUTRIDER)
        .args(["demo", "--pods=127.39", &format!("--move-port=14010={}", address.port())])
        .current_dir(directory.path())
        .output()
        .expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&address.to_string()) && told.contains("--move-port 14010=PORT"), "{told}");
    assert_eq!(told.matches("--move-port 14010=").count(), 1, "{told}");
    assert!(!directory.path().join(".outrider").exists());
}
