"""DSPy's own tests that end differently on ours, each with the reason."""

from __future__ import annotations

# By file and class, the tests of one reason.
_BY_REASON: dict[str, dict[str, tuple[str, ...]]] = {
    "it tests a private part of DSPy's class": {
        "callback/test_interpreter_callback.py": (
            "test_handle_tool_call_reports_host_exception_before_jsonrpc_conversion",
        ),
        "predict/test_program_of_thought.py": (
            "test_pot_code_generation_persistent_errors",
            "test_pot_code_parse_error",
            "test_pot_evaluate_creates_one_interpreter_per_example",
        ),
        "predict/test_rlm.py::TestRLMInitialization": (
            "test_optional_parameters",
            "test_llm_query_returns_legacy_response_text",
            "test_llm_query_returns_typed_response_text",
            "test_llm_query_rejects_unsupported_response_shape",
            "test_llm_query_reports_textless_response_type",
            "test_batched_query_errors_have_clear_markers",
            "test_batched_query_marks_missing_lm_configuration",
            "test_batched_query_propagates_programming_errors",
            "test_batched_query_inherits_request_context",
            "test_tools_call_counter_is_thread_safe",
        ),
        "predict/test_rlm.py::TestRLMFormatting": (
            "test_format_output",
            "test_format_output_empty",
            "test_format_output_passthrough",
            "test_build_variables_multiple",
        ),
        "predict/test_rlm.py::TestREPLTypes": ("test_build_variables_includes_field_metadata",),
        "predict/test_rlm.py::TestPythonInterpreter": (
            "test_start_prewarms_sandbox",
            "test_start_is_idempotent",
        ),
        "predict/test_rlm.py::TestRLMWithDummyLM": ("test_dspy_tool_execution_semantics_e2e",),
        "predict/test_rlm.py::TestBuildVariablesWithSerializable": (
            "test_serializable_uses_build_repl_variable",
            "test_regular_values_unchanged",
        ),
        "predict/test_rlm.py::TestPrepareSerializableVars": (
            "test_separates_serializable_from_regular",
            "test_no_serializable_returns_all",
            "test_binary_payload_uses_base64_transport",
            "test_large_payload_not_inlined_in_code",
        ),
        "predict/test_rlm.py::TestLargeSerializableRoundTrip": (
            "test_large_payload_round_trips_through_real_sandbox",
        ),
        "primitives/test_python_interpreter.py": (
            "test_pydantic_json_values_are_compatible_with_large_variable_injection",
            "test_json_mode_values_cross_every_host_to_sandbox_path",
            "test_json_mode_coercion_preserves_existing_fallbacks",
            "test_process_death_ends_stateful_session",
            "test_protocol_failure_ends_session",
            "test_failed_health_check_ends_session",
            "test_extract_parameters",
            "test_extract_parameters_complex_types",
            "test_small_variable_not_using_filesystem",
            "test_large_variable_threshold_boundary",
            "test_out_of_band_messages_are_skipped_not_consumed_as_responses",
            "test_id_less_protocol_errors_are_terminal",
        ),
    },
    "how DSPy starts its Deno, and opens files, network and environment to it: ours opens nothing": {
        "primitives/test_python_interpreter.py": (
            "test_enable_env_vars_flag",
            "test_read_file_access_control",
            "test_enable_write_flag",
            "test_enable_net_flag",
            "test_default_runner_starts_offline_from_warm_shared_cache",
            "test_deno_command_dict_raises_type_error",
            "test_custom_deno_command_is_unchanged",
            "test_rejects_mounts_with_the_same_guest_basename",
            "test_allows_same_canonical_file_as_read_and_write_mount",
            "test_rejects_alias_basename_colliding_with_another_file",
            "test_custom_deno_command_preserves_environment",
            "test_default_command_uses_managed_deno_for_info_and_run",
            "test_default_command_revokes_shared_cache_after_startup",
            "test_rejects_write_paths_overlapping_runtime_files",
            "test_deno_info_probe_is_bounded",
            "test_explicit_deno_dir_skips_info_query",
            "test_request_ids_are_128_bit_random_values",
            "test_enable_read_paths_symlink",
            "test_enable_read_paths_multiple_files",
            "test_execution_instructions_are_class_metadata",
        ),
    },
    "it uses JavaScript from a cell, which has none here": {
        "predict/test_rlm.py::TestSandboxSecurity": ("test_no_network_access",),
        "primitives/test_python_interpreter.py": (
            "test_interpreter_security_filesystem_access",
            "test_default_runner_cannot_read_shared_deno_cache",
            "test_guest_prototype_hook_cannot_redirect_tool_wrapper",
        ),
    },
    "the error is of the same class, or another `ValueError`, in other words": {
        "predict/test_rlm.py::TestRLMInitialization": (
            "test_tool_validation_invalid_identifier",
            "test_tool_validation_rejects_python_keyword",
            "test_duplicate_tool_names_rejected",
            "test_input_name_cannot_shadow_user_tool",
            "test_output_names_cannot_shadow_result_metadata",
            "test_forward_validates_required_inputs",
            "test_forward_rejects_undeclared_inputs_before_interpreter_execution",
        ),
        "predict/test_rlm.py::TestRLMAsyncMock": (
            "test_aforward_rejects_undeclared_inputs_before_interpreter_execution",
        ),
        "predict/test_rlm.py::TestRLMToolExceptions": (
            "test_syntax_error_from_execute_is_recoverable",
        ),
        "predict/test_rlm.py::TestRLMMaxIterationsFallback": ("test_max_iters_triggers_extract",),
        "primitives/test_python_interpreter.py": (
            "test_rejects_python_keywords_as_variable_names",
            "test_failure_syntax_error",
            "test_exception_args",
            "test_tool_cannot_reenter_same_interpreter",
            "test_shutdown_ends_session",
            "test_unserializable_pydantic_variable_raises_code_interpreter_error",
            "test_submit_wrong_arg_count",
        ),
        "predict/test_code_act.py": (
            "test_codeact_code_parse_failure",
            "test_codeact_code_execution_failure",
        ),
    },
    "what cannot be meant is a `SignatureError` or an `InputError`, where DSPy has a `TypeError`": {
        "predict/test_rlm.py::TestRLMInitialization": (
            "test_tool_validation_not_callable",
            "test_keyword_interpreter_override_has_clear_error",
        ),
    },
    "`llm_query` and `llm_query_batched` are aliases, which yield to inputs and tools": {
        "predict/test_rlm.py::TestRLMInitialization": (
            "test_tool_validation_reserved_names",
            "test_input_names_cannot_shadow_sandbox_functions",
        ),
    },
    "what older versions took is taken: tools by name, an interpreter in the constructor": {
        "predict/test_rlm.py::TestRLMInitialization": (
            "test_tools_dict_rejected",
            "test_interpreter_instance_is_rejected_as_factory",
            "test_constructor_interpreter_keyword_is_removed",
        ),
    },
    "without an LM a run is refused before a sandbox is made": {
        "predict/test_rlm.py::TestRLMInitialization": ("test_factory_return_value_is_validated",),
    },
    "the contract is added when the LM is asked; it is no part of the instruction": {
        "predict/test_rlm.py::TestRLMInterpreterLifecycle": (
            "test_execution_instructions_are_part_of_action_prompt",
        ),
        "predict/test_rlm.py::TestRLMDynamicSignature": ("test_action_signature_structure",),
    },
    "DSPy 3.4.1 itself fails it: it asks for what was removed": {
        "predict/test_rlm.py::TestRLMInterpreterLifecycle": (
            "test_python_interpreter_lm_request_bytes",
        ),
    },
    "what ends a run is a `RunFailedError` with that as its cause, and with all that there is of the run": {
        "predict/test_rlm.py::TestRLMInterpreterLifecycle": (
            "test_factory_interpreter_is_shutdown_when_prediction_raises",
        ),
        "predict/test_rlm.py::TestRLMToolExceptions": (
            "test_interpreter_failure_propagates",
            "test_interpreter_failure_propagates_async",
        ),
    },
    "a tool's exception arrives as what it is, not as a `RuntimeError`": {
        "primitives/test_python_interpreter.py": (
            "test_tool_error_surfaces_as_runtime_error",
            "test_tool_async_def_raises_propagates",
        ),
    },
    "values keep their types: None, NaN, dates and named tuples are those, not text or dicts": {
        "primitives/test_python_interpreter.py": (
            "test_tool_returning_none",
            "test_tool_returning_nan_falls_back_to_string",
            "test_tool_returns_pydantic_model",
            "test_tool_returns_typing_namedtuple",
            "test_tool_returns_collections_namedtuple",
        ),
    },
    "a value that cannot cross is an error that says where, not a text": {
        "primitives/test_python_interpreter.py": (
            "test_tool_returning_non_json_serializable",
            "test_tool_returning_unserializable_pydantic_model_raises_execution_error",
            "test_tool_returns_dataclass_with_unserializable_field_falls_back",
        ),
    },
}

REASONS = {
    f"{place}::{test}": reason
    for reason, places in _BY_REASON.items()
    for place, tests in places.items()
    for test in tests
}
"""The reason for each test, by its name without parameters."""
