"""The module name of BasicSR for `basicsr.utils.img`."""
from basicsr.utils.img import imfrombytes, img2tensor, imwrite, tensor2img

__all__ = ['imfrombytes', 'img2tensor', 'imwrite', 'tensor2img']
