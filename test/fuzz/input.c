/*
 * input.c: an input, given to the target and cut into pieces. Pieces end at a line feed, so that seeds are files one
 * can read.
 */
#include "fuzz.h"

/* What driver.c and libFuzzer call. */
extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput input = {data, data + size};
	bool returned;

	fuzz_texts_checked = fuzz_target.raises;
	returned = fuzz_run(fuzz_target.function, &input);
	FUZZ_CHECK(returned || fuzz_target.raises);
	return 0;
}

uint8
fuzz_byte(FuzzInput *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

uint32
fuzz_number(FuzzInput *input)
{
	uint32 number = 0;

	for (int i = 0; i < 4; i++)
		number = number << 8 | fuzz_byte(input);
	return number;
}

static char *
piece(FuzzInput *input, Size most, bool text, Size *len)
{
	char *copy;

	*len = text ? strnlen((const char *) input->at, most) : most;
	copy = palloc(*len + (text ? 1 : 0));
	memcpy(copy, input->at, *len);
	if (text)
		copy[*len] = '\0';
	return copy;
}

static char *
line(FuzzInput *input, bool text, Size *len)
{
	Size rest = input->end - input->at;
	const uint8 *feed = rest == 0 ? NULL : memchr(input->at, '\n', rest);
	char *copy = piece(input, feed ? (Size) (feed - input->at) : rest, text, len);

	input->at = feed ? feed + 1 : input->end;
	return copy;
}

char *
fuzz_bytes(FuzzInput *input, Size *len)
{
	return line(input, false, len);
}

char *
fuzz_text(FuzzInput *input)
{
	Size len;

	return line(input, true, &len);
}

char *
fuzz_rest(FuzzInput *input, Size *len)
{
	char *copy = piece(input, input->end - input->at, false, len);

	input->at = input->end;
	return copy;
}

char *
fuzz_rest_text(FuzzInput *input)
{
	Size len;
	char *copy = piece(input, input->end - input->at, true, &len);

	input->at = input->end;
	return copy;
}
