bin_PROGRAMS += corral
corral_SOURCES = %D%/main.c %D%/cli.c %D%/cli.h %D%/commands.h %D%/model.c %D%/model.h %D%/picture.c %D%/picture.h %D%/place.c %D%/place.h \
    %D%/progress.c %D%/progress.h \
    %D%/show.c %D%/show.h %D%/write.c %D%/write.h %D%/cmd_bench.c %D%/cmd_chat.c %D%/cmd_convert.c %D%/cmd_eval.c \
    %D%/cmd_export.c %D%/cmd_info.c %D%/cmd_logits.c %D%/cmd_doctor.c %D%/cmd_plan.c %D%/cmd_run.c %D%/cmd_tokenize.c %D%/cmd_verify.c
corral_SOURCES += %D%/cmd_calibrate.c
# corral eval: one file per subcommand
corral_SOURCES += %D%/eval.h %D%/eval_show.c
corral_SOURCES += %D%/eval_text.c %D%/eval_text.h %D%/eval_perplexity.c \
    %D%/eval_divergence.c %D%/eval_reference.c %D%/eval_routing.c
corral_SOURCES += %D%/eval_quiz.c %D%/eval_quiz.h %D%/eval_choice.c %D%/eval_generate.c
corral_SOURCES += %D%/eval_verdict.c %D%/eval_verdict.h %D%/eval_suite.c %D%/eval_compare.c %D%/cmd_report.c
corral_LDADD = $(CORRAL_LIBS) $(LIBRARIES_USED)
