# The paper's denoisers: plain SGD at one rate for 100 epochs, batch 32 in all. A model's config sets the rate
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-2))
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=32)
