# ruff: noqa

import random
from collections import OrderedDict

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils import data as data

from basicsr.data.data_util import paths_from_folder
from basicsr.data.degradations import (circular_lowpass_kernel, random_add_gaussian_noise_pt,
                                       random_add_poisson_noise_pt, random_mixed_kernels)
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.models.srgan_model import SRGANModel
from basicsr.utils import DiffJPEG, FileClient, USMSharp, imfrombytes, img2tensor
from basicsr.utils.img_process_util import filter2D
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY


@DATASET_REGISTRY.register()
class BlindDataset(data.Dataset):

    def __init__(self, opt):
        super().__init__()
        self.opt = opt
        self.file_client = None
        self.io_backend_opt = opt['io_backend']
        self.paths = paths_from_folder(opt['dataroot_gt'])

    def __getitem__(self, index):
        if self.file_client is None:
            self.file_client = FileClient(self.io_backend_opt.pop('type'), **self.io_backend_opt)
        path = self.paths[index]
        img_gt = imfrombytes(self.file_client.get(path, 'gt'), float32=True)
        img_gt = augment(img_gt, self.opt['use_hflip'], self.opt['use_rot'])
        kernel = random_mixed_kernels(['iso', 'generalized_aniso', 'plateau_iso'], [0.5, 0.3, 0.2], 7)
        if np.random.uniform() < 0.5:
            kernel = circular_lowpass_kernel(np.random.uniform(np.pi / 3, np.pi), 7, pad_to=False)
        gt = img2tensor([img_gt], bgr2rgb=True, float32=True)[0]
        return {'gt': gt, 'kernel': torch.FloatTensor(kernel), 'gt_path': path, 'lq_path': path}

    def __len__(self):
        return len(self.paths)


@MODEL_REGISTRY.register()
class BlindGANModel(SRGANModel):

    def __init__(self, opt):
        super(BlindGANModel, self).__init__(opt)
        self.jpeger = DiffJPEG(differentiable=False).to(self.device)
        self.usm_sharpener = USMSharp().to(self.device)

    @torch.no_grad()
    def feed_data(self, data):
        self.gt = data['gt'].to(self.device)
        if self.is_train and 'kernel' in data:
            self.gt_usm = self.usm_sharpener(self.gt)
            out = filter2D(self.gt_usm, data['kernel'].to(self.device))
            out = F.interpolate(out, scale_factor=0.25, mode=random.choice(['area', 'bilinear', 'bicubic']))
            out = random_add_gaussian_noise_pt(out, sigma_range=self.opt['noise_range'], clip=True, rounds=False,
                                               gray_prob=0.4)
            out = random_add_poisson_noise_pt(out, scale_range=[0.05, 3], gray_prob=0.4, clip=True, rounds=False)
            jpeg_p = out.new_zeros(out.size(0)).uniform_(30, 95)
            out = self.jpeger(torch.clamp(out, 0, 1), quality=jpeg_p)
            self.lq = torch.clamp((out * 255.0).round(), 0, 255) / 255.
            (self.gt, self.gt_usm), self.lq = paired_random_crop([self.gt, self.gt_usm], self.lq,
                                                                 self.opt['datasets']['train']['gt_size'],
                                                                 self.opt['scale'])
            self.lq = self.lq.contiguous()
        else:
            self.lq = data['lq'].to(self.device)

    def optimize_parameters(self, current_iter):
        for p in self.net_d.parameters():
            p.requires_grad = False
        self.optimizer_g.zero_grad()
        self.output = self.net_g(self.lq)
        l_g_total = 0
        loss_dict = OrderedDict()
        if (current_iter % self.net_d_iters == 0 and current_iter > self.net_d_init_iters):
            if self.cri_pix:
                l_g_pix = self.cri_pix(self.output, self.gt_usm)
                l_g_total += l_g_pix
                loss_dict['l_g_pix'] = l_g_pix
            assert not self.cri_perceptual and not self.cri_ldl
            fake_g_pred = self.net_d(self.output)
            l_g_gan = self.cri_gan(fake_g_pred, True, is_disc=False)
            l_g_total += l_g_gan
            loss_dict['l_g_gan'] = l_g_gan
            l_g_total.backward()
            self.optimizer_g.step()
        for p in self.net_d.parameters():
            p.requires_grad = True
        self.optimizer_d.zero_grad()
        real_d_pred = self.net_d(self.gt)
        l_d_real = self.cri_gan(real_d_pred, True, is_disc=True)
        loss_dict['l_d_real'] = l_d_real
        l_d_real.backward()
        fake_d_pred = self.net_d(self.output.detach().clone())
        l_d_fake = self.cri_gan(fake_d_pred, False, is_disc=True)
        loss_dict['l_d_fake'] = l_d_fake
        l_d_fake.backward()
        self.optimizer_d.step()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        self.log_dict = self.reduce_loss_dict(loss_dict)
