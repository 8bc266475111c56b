# Deliberate mistakes which the golden test must notice; run.sh says how.
dist_check_SCRIPTS += %D%/run.sh
EXTRA_DIST += %D%/bias.mut %D%/gate_up.mut %D%/kv_head.mut %D%/nope_norm.mut %D%/output_scale.mut %D%/qk_norm.mut \
    %D%/rope_scaling.mut %D%/rotate_half.mut %D%/slice_join.mut %D%/slices.mut \
    %D%/softmax.mut %D%/temperature.mut %D%/window.mut
if !SANITIZE
TESTS += %D%/run.sh
endif
