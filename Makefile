# `make NAME` is `./do NAME`, for those who have make; pass arguments with ARGS="…".
.PHONY: run test demo bench lint build package
run test demo bench lint build package:
	@./do $@ $(ARGS)
