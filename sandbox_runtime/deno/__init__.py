"""The TypeScript that runs in the sandbox process under Deno. The Python inside it is in `guest`."""
