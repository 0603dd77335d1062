"""Which test files make the two short subsets, `pytest -m quick` and `pytest -m fast`, and which are begun first.

Neither subset imports the other files, which is most of what a short run would take.
"""

# Need no torch, and neither do the modules they test: seconds in all.
QUICK = (
    "commands/test_stopping.py",
    "preflight/test_check.py",
    "project/test_architecture_docs.py",
    "project/test_imports.py",
    "project/test_troubleshooting.py",
    "story/test_prompt.py",
    "story/test_shots.py",
    "story/test_storyboard.py",
    "story/test_storyboard_files.py",
    "system/test_whole_files.py",
    "test_config.py",
    "test_settings.py",
    "text/test_windows.py",
    "writing/test_answer.py",
    "writing/test_endpoint.py",
    "writing/test_lengths.py",
    "writing/test_writing.py",
)

# Of those files, tests that import torch all the same.
NOT_QUICK = ("test_the_facade_gives_every_name_it_promises",)

# With torch, and a few seconds a file: with the quick ones, a minute and a half on two cores.
FAST = (
    *QUICK,
    "eightbit/test_eight_bit.py",
    "evaluation/test_ablations.py",
    "evaluation/test_evaluation_cuts.py",
    "evaluation/test_evaluation_scores.py",
    "film/test_contact_sheet.py",
    "film/test_video.py",
    "lora/test_lora.py",
    "model/test_model_against_oracle.py",
    "plan/test_cost.py",
    "plan/test_profiles.py",
    "project/test_docs.py",
    "quantize/test_recipe.py",
    "render/test_room.py",
    "sampling/test_sampler.py",
    "text/test_prompt_cache.py",
    "weights/test_names.py",
    "weights/test_shard.py",
    "weights/test_weights.py",
    "weights/test_weights_fill.py",
    "weights/test_weights_folder.py",
    "weights/test_weights_pickled.py",
    "weights/test_weights_sharded.py",
)

# Begun first: what forks its process again and again, for a fork copies the tables of all its memory, which grows
# from file to file. Then the longest, the longest first: begun at the end, one of them would keep one core waiting
# for the other.
FIRST = (
    "runs/test_run_folder.py",
    "quantize/test_convert_interrupted.py",
    "runs/test_resume.py",
    "web/test_page.py",
    "following/test_following.py",
    "benchmarks/test_allocator.py",
    "worker/test_process.py",
    "kernels/test_fused.py",
    "comfy/test_node_films.py",
    "quantize/test_convert.py",
    "plan/test_plan_measured.py",
    "streaming/test_cuda_lane.py",
    "farm/test_farm_on_ray.py",
    "benchmarks/test_benchmarks.py",
    "benchmarks/test_speed_runs.py",
    "commands/test_cli.py",
    "lora/test_lora_runtime.py",
    "render/test_cancel.py",
    "render/test_pipeline.py",
    "eightbit/test_eight_bit.py",
    "quantize/test_convert_memory.py",
    "evaluation/test_directing_films.py",
    "evaluation/test_evaluation_reading.py",
    "web/test_page_writing.py",
    "streaming/test_streaming.py",
    "test_parity.py",
    "commands/test_quantize_cli.py",
    "project/test_python_docs.py",
    "web/test_page_aloud.py",
    "commands/test_entry.py",
    "comfy/test_nodes.py",
    "benchmarks/test_soak.py",
    "sampling/test_step_cache.py",
    "commands/test_evaluate_cli.py",
    "render/test_ladder.py",
    "schemes/test_schemes.py",
    "doctor/test_doctor.py",
    "tiny/test_tiny.py",
    "plan/test_full_size.py",
    "film/test_video.py",
    "weights/test_audit.py",
    "web/test_planner.py",
    "evaluation/test_evaluation_directing.py",
)
