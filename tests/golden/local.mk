# Reference data: whole folders go into the distribution; nothing here runs Python (check-reference does).
EXTRA_DIST += %D%/README.md %D%/make_model.py %D%/make_malformed.py %D%/ref.py %D%/model %D%/tokenizer %D%/chat %D%/malformed
EXTRA_DIST += %D%/make_packed.py %D%/packed %D%/vision
