_base_ = [
    '../_base_/models/denoiser_metric.py',
    '../_base_/datasets/bsds300_noise.py',
    '../_base_/schedules/sgd_100e_denoising.py',
    '../_base_/denoising_runtime.py',
]

model = dict(conv=dict(eps_w=0.9, fixed_kernel=False))
# the paper's for sigma 0.1; paper.json has those of the other noises and kernel sizes
optim_wrapper = dict(optimizer=dict(lr=0.05))
randomness = dict(seed=42)
