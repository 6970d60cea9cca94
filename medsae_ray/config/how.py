"""The settings of place and speed. None of them enters an artifact's name."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from medsae_ray.config.base import HttpUrl, Model, NodeFolder, PathText
from medsae_ray.options import Positive

GB = 10**9
"""The bytes of a GB, in every key of a recipe except `kv_cache_gb`."""


def _share_or_whole(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("a share of a GPU is at most 1, and more than one GPU a whole number of them")
    return _countable(gpus)


def _countable(amount: float) -> float:
    if 0 < amount < 1e-4:
        raise ValueError("Ray counts in ten-thousandths: 0.0001 is the least")
    return amount


Cpus = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_countable)]
Gpus = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_share_or_whole)]


class Paths(Model):
    """Where files lie. Relative paths start at the recipe's folder; URIs (s3://...) are taken as they are. ~, $NAME and
    ${NAME} are read as by a shell, here and in all other paths of a recipe."""

    table: PathText | None = None
    """CSV or Parquet file with the dataset's labels."""
    metadata: PathText | None = None
    """MIMIC-CXR-JPG: its -metadata.csv.gz."""
    split: PathText | None = None
    """MIMIC-CXR-JPG: its -split.csv.gz."""
    images: PathText | None = None
    """Folder that image paths start at; the table's own folder if not given."""
    weights: PathText | None = None
    """The encoder's weights: a file, builtin:phantom-encoder, builtin:phantom-volumes-encoder, or, as the kind wants,
    a Hugging Face id or folder."""
    second_weights: PathText | None = None
    """The weights of what.monosemanticity.encoder, as `weights`."""
    vocabulary: PathText | None = None
    """File with the terms of what.vocabulary, one a line; # begins a comment."""
    tokenizer: PathText | None = None
    """The text half's tokenizer, a Hugging Face id or a folder; null takes Bio_ClinicalBERT's."""
    datasets: dict[str, "Paths"] = Field(default_factory=dict)
    """The files of each of several datasets, by its name."""

    @model_validator(mode="after")
    def _one_level(self) -> Self:
        beside = ("weights", "second_weights", "vocabulary", "tokenizer", "datasets")
        if any(getattr(paths, key) for paths in self.datasets.values() for key in beside):
            raise ValueError("how.paths.datasets holds a dataset's files; `weights` belong beside it")
        return self


class Pool(Model):
    """Actors that map a model over shards."""

    @property
    def device(self) -> str:
        """The torch name of an actor's device."""
        return "cuda" if self.gpus else "cpu"

    actors: Positive = 1
    """Processes, each with the model loaded."""
    cpus: Cpus = 1.0
    """CPUs that one actor reserves in Ray."""
    gpus: Gpus = 0.0
    """GPUs that one actor reserves, or its share of one; 0 computes on the CPU. Asked for explicitly, never guessed."""
    threads: Positive = 1
    """Threads of one actor's arithmetic. Another number may change the last bits of a float."""
    batch_size: Positive = 64
    """Images per forward pass. Another number may change the last bits of a float."""
    readers: Positive = 4
    """Images of one shard that are read at once."""
    reader_cpus: Cpus = 0.5
    """CPUs that reading and decoding one shard reserves in Ray. Shards are read ahead of the actors on the CPUs that
    these leave free, (CPUs - actors * cpus) / reader_cpus at once. At 0.5 two shards share a CPU, which stays busy
    while one waits for its bytes or is handed over; take less for a slow network, 1 if an encoder on the CPU has too
    little."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Attempts to repeat a shard whose worker died."""


class Train(Model):
    """Workers of the SAE's training."""

    workers: Positive = 1
    """Data-parallel processes (DDP). In a sweep every SAE has one, and as many run as the cluster has room for."""
    cpus: Cpus = 1.0
    """CPUs per worker."""
    gpus: Gpus = 0.0
    """GPUs per worker; 0 trains on the CPU with gloo, otherwise nccl, which joins no two workers on one GPU: less than
    1 is for a single worker, and for a sweep."""
    checkpoint_epochs: Positive | None = None
    """Epochs between checkpoints, from which a lost worker or a killed run goes on; null makes one every 30 seconds."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Attempts to continue training after a worker died."""
    memory_gb: Annotated[float, Field(ge=0)] = 4.0
    """Largest split (4 bytes a number, 10^9 bytes a GB) whose embeddings each worker holds in memory, or on its GPU.
    A larger one lies in a file on the node's disk, of which a worker holds one batch: the same result to the last
    bit. 0 puts every split in a file."""
    scratch: NodeFolder | None = None
    """Folder on every node's own disk for such files, from the root (/); null takes the temporary folder (TMPDIR)."""


class Vlm(Model):
    """The vision-language model and where it runs: on this cluster through vLLM, or behind a URL."""

    model: PathText
    """Hugging Face id (google/medgemma-4b-it), folder or builtin:phantom-vlm; with `url`, its name on that server."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
    url: HttpUrl | None = None
    """Base URL of an OpenAI-compatible server (http://host:8000/v1) to use instead of an engine on this cluster."""
    key_variable: Annotated[str, Field(min_length=1)] | None = None
    """Environment variable that holds the key for `url`; null sends no key."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the engine's arithmetic."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs per replica (tensor parallel if more than one, all of one node); 0 runs on the CPU."""
    cpus: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_countable)] = 1.0
    """CPUs that a replica reserves in Ray, and threads that prepare its images: 4 or more for a GPU."""
    replicas: Positive = 1
    """Copies of the engine."""
    max_model_len: Positive | None = None
    """Tokens of a prompt and its answer; null takes the model's own limit, at most 8192. An image of Gemma 3 is 256
    tokens."""
    max_seqs: Positive = 64
    """Requests that the engine works on at once."""
    kv_cache_gb: Annotated[float, Field(gt=0)] = 4.0
    """Memory for cached tokens, CPU only: in GiB (2^30 bytes), as vLLM counts it there."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that the engine takes."""
    eager: bool = False
    """Skip compilation and graph capture: a quicker start, slower answers."""
    model_impl: Literal["auto", "vllm", "transformers"] = "auto"
    """Implementation of the model. vLLM's own Gemma 3 needs torchvision; "transformers" does not."""
    start_timeout_s: Positive = 1800
    """Seconds until an engine that is not ready counts as failed. Large weights have to be downloaded first."""
    idle_s: Annotated[float, Field(ge=0)] = 15.0
    """Seconds that the engine waits for the next run after the last one has ended, on a cluster that was joined. On
    a local one it ends with its run."""
    in_flight: Positive = 16
    """Images per replica whose questions run at once; each is held in memory."""


class Cache(Model):
    """The cache of images of a slow store (s3://, gs://, http://) on each node's own disk. They are read for
    embeddings, and again for names and for the report: with a cache the store is then only asked for changes. Local
    images are not cached, nor files above 1 GiB, nor those of a server that states neither time nor ETag."""

    folder: NodeFolder
    """Folder from the root (/), made if missing; only the owner can read its files, since they are patients' images.
    Runs may share it; delete it while none is running. It needs file locks, so not a network's disk."""
    gb: Annotated[float, Field(gt=0)]
    """Limit on each node (10^9 bytes a GB); the least recently used images make room."""


class IdKey(Model):
    """The key that hashes identifiers (what.privacy). Without file and variable each root has its own key, in its
    file id-key: keep it to find a patient again, delete it to make that impossible."""

    file: PathText | None = None
    """File with the key: 16 bytes or more, better 32 random ones as hex."""
    variable: str | None = None
    """Environment variable with the key, if there is no file."""


class How(Model):
    """The settings of place and speed."""

    paths: Paths = Paths()
    address: str | None = None
    """Ray cluster to use; null takes RAY_ADDRESS if set, or starts a local one."""
    cpus: Positive | None = None
    """CPUs of a local cluster; null takes all."""
    engine: Literal["ray", "loop"] = "ray"
    """Ray, or a plain loop in this process to debug a stage. Both write the same bytes."""
    id_key: IdKey = IdKey()
    cache: Cache | None = None
    """Cache for images of slow stores on the nodes; null reads them from the store each time."""
    embed: Pool = Pool()
    encode: Pool = Pool()
    train: Train = Train()
    vlm: Vlm | None = None
