# Reference data: whole folders go into the distribution; no target here runs Python.
EXTRA_DIST += %D%/README.md %D%/make_model.py %D%/make_malformed.py %D%/ref.py %D%/model %D%/tokenizer %D%/chat %D%/malformed
