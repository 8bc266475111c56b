noinst_LTLIBRARIES += %D%/libeval.la
CORRAL_LIBS += %D%/libeval.la
%C%_libeval_la_SOURCES = %D%/extract.c %D%/items.c %D%/items.h %D%/metrics.c %D%/metrics.h %D%/metrics_impl.h \
    %D%/rows.c %D%/rows.h %D%/result.c %D%/result.h
# over running text
%C%_libeval_la_SOURCES += %D%/about.c %D%/about.h %D%/calibrate.c %D%/calibrate.h %D%/compact.c %D%/compact.h %D%/corpus.c %D%/corpus.h \
    %D%/divergence.c %D%/divergence.h \
    %D%/logsum.c %D%/logsum.h %D%/perplexity.c %D%/perplexity.h \
    %D%/refer.c %D%/reference.c %D%/reference.h %D%/routing.c %D%/routing.h \
    %D%/stats.c %D%/stats.h %D%/sweep.c %D%/sweep.h %D%/text.c %D%/text.h
# by questions
%C%_libeval_la_SOURCES += %D%/ask.c %D%/ask.h %D%/choice.c %D%/choice.h %D%/feed.c %D%/feed.h %D%/quiz.c %D%/quiz.h \
    %D%/replies.c %D%/replies.h %D%/sandbox.c
# over time
%C%_libeval_la_SOURCES += %D%/compare.c %D%/compare.h %D%/gate.c %D%/gate.h %D%/history.c %D%/history.h %D%/report.c %D%/report.h %D%/suite.c %D%/suite.h
