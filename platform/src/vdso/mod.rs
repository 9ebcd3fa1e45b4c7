//! The guest vDSO: its machine code, its ELF image and its clock parameters.
