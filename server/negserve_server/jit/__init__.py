"""How kernels are compiled, kept, and reach their arrays; no kernel itself."""
