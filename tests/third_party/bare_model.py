# ruff: noqa

from copy import deepcopy

from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class BareModel(BaseModel):

    def __init__(self, opt):
        super(BareModel, self).__init__(opt)
        self.net_g = self.model_to_device(build_network(deepcopy(opt['network_g'])))
        self.print_network(self.net_g)
        if self.is_train:
            self.cri = build_loss(self.opt['train']['pixel_opt'])
            optim = dict(self.opt['train']['optim_g'])
            self.optimizer_g = self.get_optimizer(optim.pop('type'), self.net_g.parameters(), **optim)
            self.optimizers.append(self.optimizer_g)
            self.setup_schedulers()

    def feed_data(self, data):
        self.lq, self.gt = data['lq'].to(self.device), data['gt'].to(self.device)

    def optimize_parameters(self, current_iter):
        self.optimizer_g.zero_grad()
        loss = self.cri(self.net_g(self.lq), self.gt)
        loss.backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict({'l_bare': loss})

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        for val_data in dataloader:
            self.feed_data(val_data)

    def save(self, epoch, current_iter):
        self.save_network(self.net_g, 'net_g', current_iter)
        self.save_training_state(epoch, current_iter)
