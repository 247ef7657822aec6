/* SPDX-License-Identifier: BSD-3-Clause */
// What _ffi.py needs of ../callback.h, as cffi parses it.

struct callback {
	int cancel;
	void *handle;
	...;
};

void callback_install(struct callback *callback, struct coresnap_options *options, int asks);
int callback_listen(struct callback *callback);
void callback_answer(struct callback *callback, int answer);

extern "Python" int callback_python(const struct coresnap_progress *progress, void *handle);
