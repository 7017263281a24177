# ruff: noqa

from collections import OrderedDict

from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class ThirdModel(SRModel):

    def init_training_settings(self):
        self.net_g.train()
        train_opt = self.opt['train']
        self.ema_decay = train_opt.get('ema_decay', 0)
        self.weight = train_opt.get('my_weight', 1.0)
        self.cri_pix = build_loss(train_opt['pixel_opt']).to(self.device)
        self.cri_extra = build_loss(train_opt['my_opt']).to(self.device) if train_opt.get('my_opt') else None
        self.setup_optimizers()
        self.setup_schedulers()
        get_root_logger().info(f'my_weight is {self.weight}')

    def feed_data(self, data):
        self.lq = data['lq'].to(self.device)
        if 'gt' in data:
            self.gt = data['gt'].to(self.device)

    def optimize_parameters(self, current_iter):
        self.optimizer_g.zero_grad()
        self.output = self.net_g(self.lq)
        loss_dict = OrderedDict()
        loss_dict['l_pix'] = self.weight * self.cri_pix(self.output, self.gt)
        loss_dict['l_extra'] = self.cri_extra(self.output, self.gt)
        (loss_dict['l_pix'] + loss_dict['l_extra']).backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(loss_dict)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
