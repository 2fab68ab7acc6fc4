//! A pod of one container as a manifest describes it: what the kubelet makes of the container for CRI, and of a Secret for
//! the file system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tonic::Status;

use crate::cri::{ContainerId, ContainerMetadata, CreateContainerResponse, Cri, Empty, ImageSpec};

use self::messages::{
    Capability, ContainerConfig, CreateContainerRequest, ExecSyncRequest, ExecSyncResponse,
    Int64Value, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    Mount, SELinuxOption, SecurityProfile, StopContainerRequest,
};

mod messages;

/// A pod that runs.
#[derive(Debug)]
pub struct Pod<'a> {
    cri: &'a Cri,
    sandbox: String,
    container: ContainerId,
    probe: Vec<String>,
    grace: i64,
}

impl<'a> Pod<'a> {
    /// Starts the pod of a template, with this image, and these directories of the node for its volumes.
    ///
    /// # Errors
    /// What the kubelet would be told.
    ///
    /// # Panics
    /// If the template asks for what is not understood here, which a kubelet might do.
    pub fn start(
        cri: &'a Cri,
        template: &Value,
        image: &str,
        volumes: &BTreeMap<String, PathBuf>,
    ) -> Result<Self, Status> {
        let pod = &template["spec"];
        let [container] = &list(&pod["containers"])[..] else {
            panic!("one container was expected: {pod}");
        };
        only(
            container,
            "name image resources securityContext readinessProbe volumeMounts",
        );
        let name = text(&container["name"]);
        let (config, sandbox) = cri.start_sandbox(&name)?;
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: name.clone(),
                    attempt: 0,
                }),
                image: Some(ImageSpec {
                    image: image.to_owned(),
                }),
                mounts: list(&container["volumeMounts"])
                    .iter()
                    .map(|mount| bind(mount, volumes))
                    .collect(),
                log_path: format!("{name}.log"),
                linux: Some(LinuxContainerConfig {
                    resources: Some(resources(&container["resources"])),
                    security_context: Some(security(&container["securityContext"])),
                }),
            }),
            sandbox_config: Some(config),
        };
        let created: CreateContainerResponse = cri.runtime_call("CreateContainer", request)?;
        let container_id = ContainerId {
            container_id: created.container_id,
        };
        cri.runtime_call::<_, Empty>("StartContainer", container_id.clone())?;
        Ok(Self {
            cri,
            sandbox,
            container: container_id,
            probe: list(&container["readinessProbe"]["exec"]["command"])
                .iter()
                .map(text)
                .collect(),
            grace: number(&pod["terminationGracePeriodSeconds"]),
        })
    }

    /// Waits until its probe says that it is ready.
    ///
    /// # Panics
    /// If that does not come to pass; with its log.
    pub fn wait_until_ready(&self) {
        assert!(!self.probe.is_empty(), "there is no readiness probe");
        self.wait_for("the pod is ready", || {
            let request = ExecSyncRequest {
                container_id: self.container.container_id.clone(),
                cmd: self.probe.clone(),
                timeout: 10,
            };
            let answer: Result<ExecSyncResponse, _> = self.cri.runtime_call("ExecSync", request);
            answer.is_ok_and(|answer| answer.exit_code == 0)
        });
    }

    /// Waits for what the pod is to bring about.
    ///
    /// # Panics
    /// If that does not come to pass within two minutes; with its log.
    pub fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(120);
        while !is_so() {
            assert!(
                Instant::now() < patience,
                "in vain waited until {what}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the containers of this pod have printed.
    #[must_use]
    pub fn log(&self) -> String {
        let files = fs::read_dir(self.cri.directory()).into_iter().flatten();
        files
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|name| name == "log"))
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .collect()
    }

    /// Ends it as the kubelet does when the pod is deleted.
    ///
    /// # Errors
    /// What the kubelet would be told.
    pub fn delete(self) -> Result<(), Status> {
        let request = StopContainerRequest {
            container_id: self.container.container_id.clone(),
            timeout: self.grace,
        };
        self.cri
            .runtime_call::<_, Empty>("StopContainer", request)?;
        self.cri.remove_sandbox(self.sandbox)
    }
}

/// The directory of a volume that holds a Secret or a ConfigMap: files are links into a directory that is replaced whole.
#[derive(Debug)]
pub struct Projected {
    directory: PathBuf,
    mode: u32,
    generation: u32,
}

impl Projected {
    /// An empty one.
    ///
    /// # Panics
    /// If it cannot be made; the other methods, if it cannot be written.
    #[must_use]
    pub fn new(directory: PathBuf, mode: u32) -> Self {
        fs::create_dir_all(&directory).expect("the directory is ours");
        Self {
            directory,
            mode,
            generation: 0,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Replaces what it holds, as the kubelet does.
    pub fn set(&mut self, files: &[(&str, &str)]) {
        let old = fs::read_link(self.directory.join("..data")).ok();
        self.generation += 1;
        let name = format!("..2026_01_01_00_00_00.{}", self.generation);
        let new = self.directory.join(&name);
        fs::create_dir(&new).expect("the directory is ours");
        for (file, content) in files {
            fs::write(new.join(file), content).expect("the directory is ours");
            let mode = fs::Permissions::from_mode(self.mode);
            fs::set_permissions(new.join(file), mode).expect("the file is ours");
        }
        let link = self.directory.join("..data_tmp");
        symlink(&name, &link).expect("the directory is ours");
        fs::rename(link, self.directory.join("..data")).expect("the directory is ours");
        for (file, _) in files {
            let _ = symlink(Path::new("..data").join(file), self.directory.join(file));
        }
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("..") && !files.iter().any(|(file, _)| *file == name) {
                fs::remove_file(entry.path()).expect("the directory is ours");
            }
        }
        if let Some(old) = old {
            fs::remove_dir_all(self.directory.join(old)).expect("the directory is ours");
        }
    }
}

fn bind(mount: &Value, volumes: &BTreeMap<String, PathBuf>) -> Mount {
    only(mount, "name mountPath readOnly");
    let name = text(&mount["name"]);
    let host = volumes
        .get(&name)
        .unwrap_or_else(|| panic!("the template has no volume {name}"));
    Mount {
        container_path: text(&mount["mountPath"]),
        host_path: host.display().to_string(),
        readonly: mount["readOnly"].as_bool().unwrap_or(false),
    }
}

fn resources(resources: &Value) -> LinuxContainerResources {
    let limits = &resources["limits"];
    only(limits, "memory");
    let memory = text(&limits["memory"]);
    let mebibytes: Option<i64> = memory.strip_suffix("Mi").and_then(|text| text.parse().ok());
    let mebibytes = mebibytes.unwrap_or_else(|| panic!("a limit of {memory}"));
    LinuxContainerResources {
        memory_limit_in_bytes: mebibytes << 20,
    }
}

fn security(context: &Value) -> LinuxContainerSecurityContext {
    only(
        context,
        "runAsUser allowPrivilegeEscalation readOnlyRootFilesystem capabilities seccompProfile seLinuxOptions",
    );
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            drop_capabilities: list(&context["capabilities"]["drop"])
                .iter()
                .map(text)
                .collect(),
        }),
        selinux_options: Some(SELinuxOption {
            kind: text(&context["seLinuxOptions"]["type"]),
        }),
        run_as_user: Some(Int64Value {
            value: number(&context["runAsUser"]),
        }),
        readonly_rootfs: context["readOnlyRootFilesystem"].as_bool().unwrap_or(false),
        no_new_privs: context["allowPrivilegeEscalation"] == false,
        seccomp: Some(SecurityProfile { profile_type: 0 }),
    }
}

/// A field that is not understood here would be a part of the manifest that is not tested.
fn only(value: &Value, fields: &str) {
    for field in value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
    {
        assert!(
            fields.split(' ').any(|known| known == field),
            "{field} is not understood, in {value}"
        );
    }
}

fn number(value: &Value) -> i64 {
    let number = value.as_i64();
    number.unwrap_or_else(|| panic!("a number was expected, not {value}"))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
