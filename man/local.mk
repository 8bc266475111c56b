# One page per command, corral-<command>.1, and the overview; tests/check_man.sh compares them with --help.
dist_man_MANS += %D%/corral.1
dist_man_MANS += %D%/corral-bench.1 %D%/corral-chat.1 %D%/corral-convert.1 %D%/corral-doctor.1 %D%/corral-eval.1 \
    %D%/corral-export.1 %D%/corral-info.1 \
    %D%/corral-logits.1 %D%/corral-plan.1 %D%/corral-run.1 %D%/corral-tokenize.1 %D%/corral-verify.1
dist_man_MANS += %D%/corral-calibrate.1
# One page per evaluator, corral-eval-<subcommand>.1.
dist_man_MANS += %D%/corral-eval-perplexity.1 %D%/corral-eval-reference.1 %D%/corral-eval-divergence.1
dist_man_MANS += %D%/corral-eval-routing.1
dist_man_MANS += %D%/corral-eval-choice.1 %D%/corral-eval-generate.1
dist_man_MANS += %D%/corral-eval-suite.1 %D%/corral-eval-compare.1
dist_man_MANS += %D%/corral-report.1
