"""How the C kernels are compiled. `setup.py` runs this file where nothing is installed yet, so it imports nothing."""

SOURCE = 'scan.c'
HEADERS = ('scan_isa.h', 'ss2d_isa.h', 'sequence_isa.h', 'gelu_isa.h')
# no -march: the file compiles each instruction set by itself; no -ffast-math: it breaks the rounding of exp2
COMPILE = ('-O3', '-std=gnu11', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-fvisibility=hidden',
           '-pthread', '-Wno-psabi')
LINK = ('-pthread', )
