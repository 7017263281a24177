"""The option file: every key, its type, its default and what it means. Unknown keys are mistakes.

Blocks that describe a component (`network_g`, losses, metrics, datasets, schedulers, optimizers) are only required to
be mappings here; their keys are the arguments of the component and are checked in `check.py`.
"""
from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from basicsr.utils.values import (
    REAL,
    WHOLE,
    BelowOne,
    Count,
    FilePath,
    Natural,
    NonNegative,
    PathName,
    Positive,
    Switch,
)


class Block(BaseModel):
    model_config = ConfigDict(extra='forbid', protected_namespaces=(), populate_by_name=True)


Component = dict[str, Any]
_AtLeastMinusOne = Annotated[int, Ge(-1), WHOLE]
_Port = Annotated[int, Ge(0), Le(65535), WHOLE]
_Seed = Annotated[int, Ge(0), Le(2**63 - 1), WHOLE]  # what PyTorch takes
# beyond these the numbers that PyTorch draws are 0, 1 or one half
_Beta = Annotated[float, Ge(1e-3), Le(1e6), AllowInfNan(False), REAL]


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class PathOptions(Block):
    """Files to start from and folders to write to."""
    pretrain_network_g: FilePath | None = Field(None, description='weights to start from (.pth or .safetensors)')
    pretrain_network_d: FilePath | None = None
    fine_tune_from: FilePath | None = Field(
        None, description='an earlier run by its name, or a weight file: start from its last weights')
    strict_load_g: Switch = Field(True, description='false: keys that do not fit are skipped and listed')
    strict_load_d: Switch = True
    param_key: str | None = Field(None, description='spelling of param_key_g in the Restormer family')
    param_key_g: str | None = Field('params', description="entry of the weights file: 'params', 'params_ema'")
    param_key_d: str | None = 'params'
    resume_state: FilePath | None = Field(None,
                                          description='.state file to continue from; wins over pretrain_network_g')
    ignore_resume_networks: Annotated[list[str] | None, BeforeValidator(_names)] = Field(
        None, description="networks, such as 'network_d', whose weights a resume leaves as they are")
    experiments_root: FilePath | None = Field(None, description='parent folder of experiments, default ./experiments')
    results_root: FilePath | None = Field(None, description='parent folder of results, default ./results')
    root: FilePath | None = None


class MixingOptions(Block):
    mixup: Switch = False
    mixup_beta: _Beta = Field(1.2, description='both parameters of the Beta distribution of the weight')
    use_identity: Switch = Field(False, description='mix only every second batch on average')


class EarlyStopOptions(Block):
    """Ends a run that no longer improves on the first validation set."""
    metric: str | None = Field(None, description='label in val.metrics, default the one that chooses the best weights')
    patience: Count = Field(description='validations without improvement after which the run ends')
    min_delta: NonNegative = Field(0, description='what an improvement must exceed')


class TrainOptions(Block):
    total_iter: Count = Field(description='optimizer steps')
    warmup_iter: _AtLeastMinusOne = Field(-1, description='length of the linear warm-up in iterations, -1 for none')
    optim_g: Component
    optim_d: Component | None = None
    scheduler: Component
    ema_decay: BelowOne = Field(0, description='decay of the moving average of the weights, 0 for none')
    pixel_opt: Component | None = None
    perceptual_opt: Component | None = None
    losses: list[Component] | None = Field(None, description='further losses, each {type, ...}; all are summed')
    gan_opt: Component | None = None
    ldl_opt: Component | None = None
    feature_matching_opt: Component | None = None
    net_d_iters: Count = 1
    net_d_init_iters: Natural = 0
    use_grad_clip: Switch = Field(False, description='clip the global gradient norm to 0.01 (Restormer family)')
    grad_clip_norm: Positive | None = Field(None, description='clip the global gradient norm to this value')
    mixing_augs: MixingOptions | None = None
    amp: Literal['bf16', 'fp16'] | None = Field(None, description='autocast type; fp16 scales the loss')
    accumulate: Count = Field(1, description='split each batch into this many parts to save memory')
    compile: Literal[True, False, 'reduce-overhead',
                     'max-autotune'] = Field(False,
                                             description='torch.compile the network; reduce-overhead uses CUDA graphs')
    cuda_graphs: Literal['auto', True, False] = Field(
        'auto', description='record the training step on a GPU once per patch size and replay it; true: or stop')
    time_limit: Positive | None = Field(
        None, description='minutes after which this start of the run ends with a training state, to be resumed')
    nonfinite: Literal['stop', 'skip', 'rollback'] = Field(
        'stop',
        description='what a loss or gradient that is not finite does: the run stops, leaves the step out, or goes'
        ' back to its last state and on with other samples')
    channels_last: Switch = False
    cudnn_benchmark: Switch = True
    early_stop: EarlyStopOptions | None = None


class ValOptions(Block):
    val_freq: Count | None = Field(None, description='iterations between validations')
    save_img: Switch = False
    suffix: PathName | None = None
    pbar: Switch = Field(True, description='progress bar on a terminal')
    metrics: dict[str, Component] = Field(default_factory=dict,
                                          description='label: {type: calculate_psnr, protocol: ...}')
    best_metric: str | None = Field(None, description='label of the metric that chooses the best weights')
    window_size: Natural | None = Field(0,
                                        description='pad inputs to a multiple of this; 0: to what the network pads to')
    rgb2bgr: Switch = True
    use_image: bool | None = Field(None, description='Restormer family: false means metrics on unrounded values')
    max_minibatch: Count | None = None
    save_images_to_tb: Natural = Field(2, description='pictures of each validation shown in TensorBoard')

    @field_validator('metrics', mode='before')
    @classmethod
    def _none(cls, value: Any) -> Any:
        return {} if value is None else value


class WandbOptions(Block):
    project: str | None = None
    resume_id: str | None = None


class LoggerOptions(Block):
    print_freq: Count = 100
    save_checkpoint_freq: Count = 5000
    use_tb_logger: Switch = False
    wandb: WandbOptions | None = None


class DistOptions(Block):
    backend: str = 'nccl'
    port: _Port = 29500


# blocks that checked options hold even where the file does not
ALWAYS = ('path', 'val', 'logger', 'dist_params')


class Options(Block):
    """One run: data, network, training, validation, logging."""
    name: PathName | None = Field(None,
                                  description='names the folders of the run, default: the name of the option file')
    base: str | None = Field(None, description='another option file; here only what differs')
    model_type: str = Field('ImageCleanModel', description='class in basicsr/models')
    scale: Count = Field(1, description='ground truth size divided by input size')
    num_gpu: Literal['auto'] | Natural = Field('auto',
                                               description="'auto': every visible GPU, else the CPU; 0: the CPU")
    manual_seed: _Seed | None = None
    use_amp: bool | None = Field(None, description='Retinexformer family: same as train.amp: fp16')
    find_unused_parameters: Literal['auto'] | Switch = Field(
        'auto',
        description='of several processes: whether parameters may get no gradient; auto: as the network is found')
    arch_files: list[FilePath] | None = Field(None, description='further *_arch.py files')
    model_files: list[FilePath] | None = None
    dataset_files: list[FilePath] | None = None
    loss_files: list[FilePath] | None = None
    metric_files: list[FilePath] | None = None
    datasets: dict[str, Component]
    network_g: Component
    network_d: Component | None = None
    train: TrainOptions | None = None
    # None is read as a block without keys
    path: PathOptions | None = Field(default_factory=PathOptions)
    val: ValOptions | None = Field(default_factory=ValOptions)
    logger: LoggerOptions | None = Field(default_factory=LoggerOptions)
    dist_params: DistOptions | None = Field(default_factory=DistOptions)
    stages: list[Annotated[dict[str, Any], Field(json_schema_extra={'required': ['name']})]] | None = Field(
        None, description='runs one after the other: {name: ..., option.path: value, ...}')

    @field_validator(*ALWAYS, mode='before')
    @classmethod
    def _nothing_below(cls, value: Any) -> Any:
        return {} if value is None else value


def with_defaults(opt: dict[str, Any]) -> dict[str, Any]:
    """Checked options as they would be checked today, e.g. those that an earlier version recorded: with all of `ALWAYS`."""
    added = {}
    for name in ALWAYS:
        defaults = Options.model_fields[name].get_default(call_default_factory=True).model_dump(exclude_none=True)
        added[name] = defaults | (opt.get(name) or {})
    return opt | added


class LoaderOptions(Block):
    """Keys of a dataset block that the loader reads, beside the arguments of the dataset class."""
    name: PathName | None = None
    type: str
    phase: str | None = None
    scale: Count = 1
    batch_size_per_gpu: Count = Field(1, description='per process; times num_gpu without a launcher')
    num_worker_per_gpu: Natural = 0
    worker_timeout: Natural = Field(600, description='seconds that workers may take for a batch; 0: any time')
    dataset_enlarge_ratio: Positive = 1
    cache: Literal['device'] | None = Field(
        None, description='device: the training images stay in the memory of the GPU (or CPU) and are cut there')
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    num_prefetch_queue: Count = 1
    pin_memory: Switch = False
    persistent_workers: Switch = False
    use_shuffle: bool | None = None
    mini_batch_sizes: list[Count] | None = Field(None, description='progressive training: batch size of each stage')
    gt_sizes: list[Count] | None = Field(None, description='progressive training: patch size of each stage')
    iters: list[Count] | None = Field(None, description='progressive training: iterations of each stage')
