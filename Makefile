# `make NAME` is `./do NAME`, for those who have make; pass arguments with ARGS="…".
.PHONY: run test demo bench lint build
run test demo bench lint build:
	@./do $@ $(ARGS)
