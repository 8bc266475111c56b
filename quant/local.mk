noinst_LTLIBRARIES += quant/libquant.la
CORRAL_LIBS += %D%/libquant.la
quant_libquant_la_SOURCES = quant/act.c quant/act.h quant/bf16.c quant/bf16.h quant/mat.c quant/mat.h quant/q4.c quant/q4.h \
    quant/q8.c quant/q8.h
