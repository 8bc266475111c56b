noinst_LTLIBRARIES += %D%/libtext.la
CORRAL_LIBS += %D%/libtext.la
%C%_libtext_la_SOURCES = %D%/chat.c %D%/chat.h %D%/detok.c %D%/encode.c %D%/pretok.c %D%/pretok.h %D%/regex.c %D%/regex.h %D%/str.c \
    %D%/str.h %D%/tok.c %D%/tok.h %D%/tok_bin.c %D%/tok_impl.h %D%/tok_json.c %D%/tok_ranks.c %D%/tojson.c \
    %D%/tojson.h %D%/toolcall.c %D%/toolcall.h %D%/utf8.h
