"""gke_jobset.yaml: fields that Kubernetes knows, and values that fit each other and main."""

import re

import pytest

from prnet_jax.config import default_config


def _object(required=(), **fields):
    """A JSON schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split() if required else [],
        "additionalProperties": False,
    }


def _list(of):
    return {"type": "array", "items": of, "minItems": 1}


_TEXT, _COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
_FLAG, _OBJECT = {"type": "boolean"}, {"type": "object"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_CONTAINER = _object(
    "name image command args",
    name=_NAME,
    image=_TEXT,
    command=_list(_TEXT),
    args=_list(_TEXT),
    workingDir=_TEXT,
    env=_list(_object("name value", name=_TEXT, value=_TEXT)),
    ports=_list(_object("containerPort", containerPort=_PORT)),
    resources=_object(limits=_OBJECT, requests=_OBJECT),
    volumeMounts=_list(_object("name mountPath", name=_NAME, mountPath=_TEXT)),
)
_CLAIM = _object("claimName", claimName=_NAME)
_POD = _object(
    "containers restartPolicy",
    containers=_list(_CONTAINER),
    restartPolicy={"enum": ["Never", "OnFailure"]},
    terminationGracePeriodSeconds=_COUNT,
    nodeSelector=_TEXTS,
    volumes=_list(
        _object("name persistentVolumeClaim", name=_NAME, persistentVolumeClaim=_CLAIM),
    ),
)
_EXIT_CODES = _object(
    "operator values",
    operator={"enum": ["In", "NotIn"]},
    values=_list({"type": "integer"}),
    containerName=_NAME,
)
_POD_RULE = _object("action onExitCodes", action={"enum": ["FailJob"]}, onExitCodes=_EXIT_CODES)
_JOB = _object(
    "template",
    template=_object("spec", spec=_POD),
    parallelism=_COUNT,
    completions=_COUNT,
    completionMode={"enum": ["Indexed", "NonIndexed"]},
    backoffLimit=_COUNT,
    podFailurePolicy=_object("rules", rules=_list(_POD_RULE)),
)
_REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded")
_RULE = _object(
    "action",
    name=_TEXT,
    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
    onJobFailureReasons=_list({"enum": [*_REASONS, "PodFailurePolicy"]}),
)
_REPLICATED = _object(
    "name template", name=_NAME, template=_object("spec", spec=_JOB), replicas=_COUNT
)
# The fields that the file uses, from https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2
# and from Kubernetes' batch/v1 and core/v1.
JOBSET = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=_object("name", name=_NAME, annotations=_TEXTS),
    spec=_object(
        "replicatedJobs",
        replicatedJobs=_list(_REPLICATED),
        network=_object(enableDNSHostnames=_FLAG, publishNotReadyAddresses=_FLAG),
        failurePolicy=_object("maxRestarts", maxRestarts=_COUNT, rules=_list(_RULE)),
    ),
)


@pytest.fixture
def jobset(root):
    yaml = pytest.importorskip("yaml")  # comes with Flax
    documents = list(yaml.safe_load_all((root / "launch" / "gke_jobset.yaml").read_text()))
    assert len(documents) == 1
    return documents[0]


def test_jobset_has_the_documented_fields(jobset):
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    jsonschema.Draft202012Validator.check_schema(JOBSET)
    checker = jsonschema.Draft202012Validator(JOBSET)
    assert [error.message for error in checker.iter_errors(jobset)] == []
    jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["paralelism"] = 4
    assert not checker.is_valid(jobset)


def test_jobset_fits_the_slice_and_main(jobset, root):
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    sides = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    chips = int(sides[0]) * int(sides[1])
    a_host = container["resources"]["limits"]["google.com/tpu"]
    assert container["resources"]["requests"]["google.com/tpu"] == a_host
    assert job["parallelism"] == job["completions"] == chips // a_host
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")  # JobSet restarts all
    config = default_config("prnet")
    assert pod["terminationGracePeriodSeconds"] > config.stop_within_s
    name = job["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"]
    assert name == container["name"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    script, (workdir, *arguments) = container["command"][-1], container["args"]
    assert (root / script).is_file() and workdir.startswith(mounted["shared"])
    for argument in arguments[1:]:
        path, value = re.fullmatch(r"--config\.([\w.]+)=(.+)", argument).groups()
        with config.unlocked():
            config.update_from_flattened_dict({path: type_of(config, path)(value)})
    assert config.batch_size % chips == config.eval_batch_size % chips == 0
    from jax._src.clusters.cloud_tpu_cluster import coordinator_port

    ports = {port["containerPort"] for port in container["ports"]}
    assert {8471, int(coordinator_port)} <= ports
    names = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"][0]["name"]
    assert len("-".join(names)) < 50  # pods' host names, of at most 63, append two indices


def type_of(config, path):
    """The type of a field; it must exist."""
    *parents, last = path.split(".")
    for parent in parents:
        config = config[parent]
    return config.get_type(last)
