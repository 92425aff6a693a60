//! PostgreSQL as Debian packages it (15), in a folder of its own. The server refuses to run as root: there it runs as
//! the user that the package made, which owns nothing but the data folder.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::endpoints::write_private;
use crate::guard::{Guard, Launch, Order, retry_taken_port};
use crate::{free_port, random};

/// Where Debian puts the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The user that Debian's package makes.
const USER: &str = "postgres";

/// How long a program that prepares something may take.
const PREPARED_WITHIN: Duration = Duration::from_secs(60);

/// A private PostgreSQL server. Dropping it ends the server and removes its files.
pub struct Postgres {
    server: Mutex<Option<Guard>>,
    instance: Instance,
    _folder: TempDir,
}

/// What every program of the server must be told.
struct Instance {
    programs: PathBuf,
    /// As whom the server runs, where this process is root.
    user: Option<(u32, u32)>,
    folder: PathBuf,
    port: u16,
    password: String,
}

impl Postgres {
    /// A private server; it takes about two seconds.
    pub async fn start() -> Result<Self> {
        let programs = programs()?;
        retry_taken_port(|| Self::attempt(&programs)).await
    }

    async fn attempt(programs: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("transship-postgres-").tempdir()?;
        // A root process made the folder as root's; nobody else's server needs another user than ours.
        let user = if folder.path().metadata()?.uid() == 0 { Some(user_ids()?) } else { None };
        let instance = Instance {
            programs: programs.to_owned(),
            user,
            folder: folder.path().to_owned(),
            port: free_port(),
            password: random::hex::<16>(),
        };
        instance.make_cluster().await?;
        let server = Mutex::new(Some(instance.start_server().await?));
        Ok(Self { server, instance, _folder: folder })
    }

    /// Makes a fresh database; its URL, user and password included.
    pub async fn database(&self) -> Result<String> {
        let name = format!("rig_{}", random::hex::<6>());
        self.instance.run("createdb", &["--no-password", &name]).await?;
        let Instance { port, password, .. } = &self.instance;
        Ok(format!("postgres://rig:{password}@127.0.0.1:{port}/{name}"))
    }

    /// The process id of the server, where it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Guard::pid)
    }

    /// Ends the server with SIGKILL; what it had committed stays.
    pub async fn kill(&self) -> Result<()> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.context("the database does not run")?.end(Order::Kill).await
    }

    /// Starts a server that was killed, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        ensure!(self.pid().is_none(), "the database runs already");
        let server = self.instance.start_server().await?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let server = self.server.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(server) = server else { return };
        // A server that is killed leaves its segment of System V memory with the kernel: it is asked to end at once.
        let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
        if pid.is_some_and(|pid| kill_process(pid, Signal::QUIT).is_ok()) {
            let (deadline, process) =
                (Instant::now() + Duration::from_secs(5), format!("/proc/{}", server.pid()));
            while Path::new(&process).exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Instance {
    async fn make_cluster(&self) -> Result<()> {
        let (password, data) = (self.folder.join("password"), self.folder.join("data"));
        write_private(&password, self.password.as_bytes())?;
        if let Some((user, group)) = self.user {
            for path in [&self.folder, &password] {
                chown(path, Some(user), Some(group)).with_context(|| format!("chown {}", path.display()))?;
            }
        }
        let (data, password) = (data.display().to_string(), password.display().to_string());
        let arguments = [
            ["--pgdata", &data],
            ["--username", "rig"],
            ["--pwfile", &password],
            ["--auth", "scram-sha-256"],
            ["--encoding", "UTF8"],
            ["--locale", "C.UTF-8"],
        ];
        let arguments: Vec<&str> = arguments.iter().flatten().copied().chain(["--no-sync"]).collect();
        self.run("initdb", &arguments).await
    }

    async fn start_server(&self) -> Result<Guard> {
        let port = self.port.to_string();
        let settings = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            // Only the loopback port: the folder's path may be too long for a socket.
            ("unix_socket_directories", ""),
            ("max_connections", "50"),
            ("shared_buffers", "16MB"),
            // In the data folder, and not in /dev/shm, where a killed server would leave it.
            ("dynamic_shared_memory_type", "mmap"),
        ];
        let mut command = self.command("postgres");
        command.extend(["-D".to_owned(), self.folder.join("data").display().to_string()]);
        for (name, value) in settings {
            command.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let mut server = Guard::start(Launch {
            command,
            environment: vec![("HOME".to_owned(), self.folder.display().to_string())],
            log: &self.folder.join("output.log"),
            folder: Some(&self.folder),
        })?;
        let answers =
            || async { self.run("psql", &["--no-password", "-c", "SELECT 1", "postgres"]).await.is_ok() };
        server.ready("PostgreSQL", answers).await?;
        Ok(server)
    }

    /// A program of the server, as the user that it runs as.
    fn command(&self, program: &str) -> Vec<String> {
        let program = self.programs.join(program).display().to_string();
        match self.user {
            None => vec![program],
            Some((user, group)) => vec![
                "setpriv".to_owned(),
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
                program,
            ],
        }
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let command = self.command(program);
        let run = tokio::process::Command::new(&command[0])
            .args(&command[1..])
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.folder)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "rig")
            .env("PGPASSWORD", &self.password)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PREPARED_WITHIN, run)
            .await
            .with_context(|| format!("{program} takes too long"))?
            .with_context(|| format!("start {program}"))?;
        if !output.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// The programs of the newest version that is installed.
fn programs() -> Result<PathBuf> {
    let installed = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let executable = |path: &PathBuf| {
        path.join("postgres").metadata().is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
    };
    let version = |folder: &std::fs::DirEntry| folder.file_name().to_str()?.parse::<u32>().ok();
    installed
        .filter_map(|folder| Some((version(&folder)?, folder.path().join("bin"))))
        .filter(|(_, programs)| executable(programs))
        .max()
        .map(|(_, programs)| programs)
        .context("PostgreSQL is not installed: run `make setup` in the root of the repository")
}

/// The ids of the user that Debian's package makes, and of its group.
fn user_ids() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let line = users.lines().find(|line| line.split(':').next() == Some(USER));
    let mut fields = line.with_context(|| format!("there is no user {USER}"))?.split(':').skip(2);
    let mut id = || -> Result<u32> { Ok(fields.next().context("a line of /etc/passwd is short")?.parse()?) };
    Ok((id()?, id()?))
}
