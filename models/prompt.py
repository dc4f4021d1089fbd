"""The words around a question that User-VLM was tuned with.

Owns: the template, used by training, conversion and tests alike. Knows nothing of tokens.
"""

TEMPLATE = " <|im_start|>USER: {question}<|im_end|> ASSISTANT: \n"
"""What follows `<bos>`. The im_* strings are plain text, not special tokens; the newline is the one
PaliGemma's processor appends (DESIGN section 4, fact 1)."""
