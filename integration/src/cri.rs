//! As much of a CRI client as the kubelet would use to start one container: messages of `runtime.v1` with the fields
//! needed here (protobuf skips the others), and a pod on the node's network.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Longest that one call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to containerd's CRI plugin.
#[derive(Debug)]
pub struct Cri {
    runtime: Runtime,
    channel: Channel,
    directory: PathBuf,
    name: String,
}

impl Cri {
    /// Connects; pods and control groups get this name, and logs go to this directory.
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    pub fn connect(socket: &Path, name: &str, directory: &Path) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("threads and files are to be had");
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))
            .expect("a path is a URI here");
        let channel = runtime
            .block_on(endpoint.timeout(PATIENCE).connect())
            .expect("containerd listens there");
        let this = Self {
            runtime,
            channel,
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        // The plugin comes up after the socket.
        let patience = Instant::now() + PATIENCE;
        while let Err(status) = this.runtime_call::<_, Empty>("Version", Empty {}) {
            assert!(Instant::now() < patience, "CRI does not answer: {status}");
            thread::sleep(Duration::from_millis(50));
        }
        this
    }

    /// Pulls an image.
    ///
    /// # Errors
    /// What the kubelet would be told.
    pub fn pull(&self, image: &str) -> Result<(), Status> {
        let request = PullImageRequest {
            image: Some(ImageSpec {
                image: image.to_owned(),
            }),
        };
        self.call::<_, Empty>("/runtime.v1.ImageService/PullImage", request)
            .map(drop)
    }

    /// Starts a pod with one container of an image that was pulled, waits for its end and returns its log.
    ///
    /// # Errors
    /// What the kubelet would be told.
    ///
    /// # Panics
    /// If the container does not end, or has no log.
    pub fn run(&self, image: &str) -> Result<String, Status> {
        let (sandbox, pod) = self.start_sandbox(&self.name)?;
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: "layer".to_owned(),
                    attempt: 0,
                }),
                image: Some(ImageSpec {
                    image: image.to_owned(),
                }),
                log_path: "log".to_owned(),
            }),
            sandbox_config: Some(sandbox),
        };
        let container: CreateContainerResponse = self.runtime_call("CreateContainer", request)?;
        let id = ContainerId {
            container_id: container.container_id,
        };
        self.runtime_call::<_, Empty>("StartContainer", id.clone())?;
        let patience = Instant::now() + PATIENCE;
        loop {
            let status: ContainerStatusResponse =
                self.runtime_call("ContainerStatus", id.clone())?;
            if status.status.is_some_and(|status| status.state == EXITED) {
                break;
            }
            assert!(Instant::now() < patience, "the container does not end");
            thread::sleep(Duration::from_millis(20));
        }
        self.remove_sandbox(pod)?;
        Ok(plain_log(
            &fs::read_to_string(self.directory.join("log")).expect("containerd wrote a log"),
        ))
    }

    /// Starts a pod without containers of ours; what it was made of, and its number.
    pub(crate) fn start_sandbox(&self, name: &str) -> Result<(PodSandboxConfig, String), Status> {
        let sandbox = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            log_directory: self.directory.display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.name),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption { network: NODE }),
                }),
            }),
        };
        let request = RunPodSandboxRequest {
            config: Some(sandbox.clone()),
        };
        let pod: RunPodSandboxResponse = self.runtime_call("RunPodSandbox", request)?;
        Ok((sandbox, pod.pod_sandbox_id))
    }

    /// Ends a pod and forgets it.
    pub(crate) fn remove_sandbox(&self, pod_sandbox_id: String) -> Result<(), Status> {
        let pod = PodSandboxId { pod_sandbox_id };
        self.runtime_call::<_, Empty>("StopPodSandbox", pod.clone())?;
        self.runtime_call::<_, Empty>("RemovePodSandbox", pod)?;
        Ok(())
    }

    /// The directory that logs of pods go to.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn runtime_call<Q, A>(&self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call(&format!("/runtime.v1.RuntimeService/{method}"), request)
    }

    fn call<Q, A>(&self, path: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(path).expect("a method has a path");
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.expect("containerd is still there");
            let answer = client
                .unary(Request::new(request), path, ProstCodec::default())
                .await?;
            Ok(answer.into_inner())
        })
    }
}

/// CRI's log has the time, the stream and a mark before each line.
fn plain_log(log: &str) -> String {
    log.lines()
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// `NamespaceMode.NODE`.
const NODE: i32 = 2;

/// `ContainerState.CONTAINER_EXITED`.
const EXITED: i32 = 2;

#[derive(Clone, Message)]
pub(crate) struct Empty {}

#[derive(Clone, Message)]
pub(crate) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(crate) image: String,
}

#[derive(Clone, Message)]
struct PullImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

#[derive(Clone, Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
}

#[derive(Clone, Message)]
struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<LinuxSandboxSecurityContext>,
}

#[derive(Clone, Message)]
pub(crate) struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Clone, Message)]
struct RunPodSandboxResponse {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, Message)]
struct PodSandboxId {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, Message)]
pub(crate) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) attempt: u32,
}

#[derive(Clone, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, tag = "11")]
    log_path: String,
}

#[derive(Clone, Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, Message)]
pub(crate) struct CreateContainerResponse {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
}

#[derive(Clone, Message)]
pub(crate) struct ContainerId {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
}

#[derive(Clone, Message)]
struct ContainerStatus {
    #[prost(int32, tag = "3")]
    state: i32,
}

#[derive(Clone, Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}
