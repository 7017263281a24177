# ruff: noqa
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class LoopsModel(SRModel):
    """A loop of its own, with what BasicSR's model contract offers it."""

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        name, metrics = dataloader.dataset.opt['name'], self.opt['val']['metrics']
        if not hasattr(self, 'metric_results'):
            self.metric_results = {label: 0 for label in metrics.keys()}
        self._initialize_best_metric_results(name)
        self.metric_results = {label: 0 for label in self.metric_results}
        for idx, data in enumerate(dataloader):
            self.feed_data(data)
            self.test()
            visuals = self.get_current_visuals()
            images = {'img': tensor2img([visuals['result']]), 'img2': tensor2img([visuals['gt']])}
            del self.gt, self.lq, self.output
            for label, block in metrics.items():
                self.metric_results[label] += calculate_metric(images, block)
        for label in self.metric_results.keys():
            self.metric_results[label] /= (idx + 1)
            self._update_best_metric_result(name, label, self.metric_results[label], current_iter)
        self._log_validation_metric_values(current_iter, name, tb_logger)


@MODEL_REGISTRY.register()
class WrapsModel(SRModel):

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        super().validation(dataloader, current_iter, tb_logger, save_img)
        get_root_logger().info(f'mine: {sorted(self.metric_results)}')


@MODEL_REGISTRY.register()
class LogsModel(SRModel):

    def _log_validation_metric_values(self, current_iter, dataset_name, tb_logger):
        get_root_logger().info(f'mine: {sorted(self.metric_results)}')
        super()._log_validation_metric_values(current_iter, dataset_name, tb_logger)


@MODEL_REGISTRY.register()
class KeepsBestModel(SRModel):

    def __init__(self, opt):
        super(KeepsBestModel, self).__init__(opt)
        self.best_metric_results = {}

    def _initialize_best_metric_results(self, dataset_name):
        if dataset_name not in self.best_metric_results:
            self.best_metric_results[dataset_name] = {'psnr': dict(better='higher', val=float('-inf'), iter=-1)}

    def _update_best_metric_result(self, dataset_name, metric, val, current_iter):
        record = self.best_metric_results[dataset_name][metric]
        if val >= record['val']:
            record['val'], record['iter'] = val, current_iter


@MODEL_REGISTRY.register()
class ReturnsModel(SRModel):

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        return {'psnr': 5.0 + len(dataloader)}


@MODEL_REGISTRY.register()
class FirstOnlyModel(SRModel):

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        if dataloader.dataset.opt['name'] == 'b':
            self.metric_results = {'psnr': 5.0}
